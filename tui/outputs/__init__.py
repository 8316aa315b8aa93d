"""Other outputs of the dashboard: a browser, the clipboard, one request on standard output."""

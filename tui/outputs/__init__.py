"""The dashboard's other ways out: a browser, the clipboard, one request on standard output."""

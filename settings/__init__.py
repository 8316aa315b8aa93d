"""How settings are declared and read: what the server's and the dashboard's have in common."""

"""One file per command. Only this package imports server, telemetry and tui together."""

"""One file per command; the only place that joins server, telemetry and tui."""

"""Export of telemetry as tables."""

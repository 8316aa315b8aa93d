"""Telemetry for OpenTelemetry's collectors. Needs the extra `otlp`."""

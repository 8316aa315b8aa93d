"""Telemetry as others read it: tables."""

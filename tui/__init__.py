"""Reads telemetry, draws it."""

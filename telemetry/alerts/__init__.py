"""Alerts: thresholds and findings that are watched, and the hooks that are told."""

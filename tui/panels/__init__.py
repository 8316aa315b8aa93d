"""Panels of the dashboard: what each shows of the store as of a moment."""

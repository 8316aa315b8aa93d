"""Columns of requests, indexed; the source of everything that the dashboard draws."""

"""Columns of requests, indexed; what the dashboard draws from."""

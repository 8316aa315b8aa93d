"""Backends, which answer requests: the seam and its implementations."""

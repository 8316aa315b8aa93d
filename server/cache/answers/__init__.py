"""Exact answers: in RAM, on disk, in Redis, and in flight."""

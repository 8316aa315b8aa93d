"""Exact answers: in RAM, on disk, in Redis, under way."""

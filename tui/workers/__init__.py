"""Threads that read and search."""

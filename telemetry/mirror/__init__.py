"""Streams of servers on other machines, copied here as they grow."""

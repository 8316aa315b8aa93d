"""Caches of computed results: whole answers, and KV states of prompts."""

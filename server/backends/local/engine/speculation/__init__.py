"""Guesses of what an answer goes on with, and whether trying them pays."""

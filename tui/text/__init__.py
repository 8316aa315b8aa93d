"""Figures and texts as they are shown; texts of others made harmless."""

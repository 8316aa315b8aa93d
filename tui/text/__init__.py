"""Figures and texts formatted for the screen; foreign text is made harmless."""

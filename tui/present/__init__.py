"""From data to figures and texts; nothing here draws."""

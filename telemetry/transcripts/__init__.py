"""What Claude Code writes down of its own work, turned into our events."""

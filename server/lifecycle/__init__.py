"""The process from its first signal to its end: stopping, draining, upkeep, exit statuses."""

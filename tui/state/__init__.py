"""What screens share, what is listed, thresholds, preferences."""

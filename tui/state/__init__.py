"""State that screens share: data, the list, thresholds, preferences."""

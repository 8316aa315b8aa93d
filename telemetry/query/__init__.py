"""The filter language: its words, its filters, what could be typed next."""

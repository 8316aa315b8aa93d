"""What an event is, how it travels, and what it adds up to."""

"""What requests add up to: figures, series, sessions, two requests side by side, one in full."""

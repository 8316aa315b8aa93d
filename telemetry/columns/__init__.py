"""Arrays that grow, and many lines as columns."""

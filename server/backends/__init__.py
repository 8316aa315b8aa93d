"""What can answer a request: the seam, and what stands behind it."""

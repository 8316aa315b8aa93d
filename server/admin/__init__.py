"""What an operator reads: metrics, status, caches."""

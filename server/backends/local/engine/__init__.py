"""The seam between scheduling and a model, and its implementations."""

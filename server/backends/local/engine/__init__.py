"""The seam between scheduling and a model, and what stands behind it."""

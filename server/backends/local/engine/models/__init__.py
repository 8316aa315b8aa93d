"""From a model's name to loaded weights, and what its folder says."""

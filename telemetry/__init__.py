"""Events: their schema, writing and reading them, and the figures computed from them."""

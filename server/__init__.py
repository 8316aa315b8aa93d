"""HTTP in, tokens out: a Sanic server that runs a local model with mlx-lm."""

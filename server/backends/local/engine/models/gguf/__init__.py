"""A GGUF file as a folder that mlx-lm can load."""

"""A model with mlx-lm: batches, tokenizer, sampling, grammars, KV states."""

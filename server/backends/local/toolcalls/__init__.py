"""Tool calls in a model's text: how they are written, found, read and enforced."""

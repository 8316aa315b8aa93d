"""Wire formats: bytes to `ChatRequest`, `Event`s to bytes."""

"""KV states of prompts: in RAM, on disk, and why one was not there."""

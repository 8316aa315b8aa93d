"""A model on this machine: prompt, KV cache, scheduler, tool calls, engine."""

"""JSON Schema: what a schema allows, and values that are fitted to it."""

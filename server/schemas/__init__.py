"""JSON Schema: allowed values, and values fitted to a schema."""

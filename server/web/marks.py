"""Headers by which requests say what they are."""

UNRECORDED = "x-mlxdeck-check"
"""A request with it is answered like any other, and stays out of telemetry and totals.

`mlxdeck check` sends it.
"""

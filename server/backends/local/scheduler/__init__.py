"""The engine thread: admission, steps, delivery, cancelling."""

"""The write side: one thread, whole lines, files that rotate."""

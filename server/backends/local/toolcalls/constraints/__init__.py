"""The constraint of an answer, and its grammar."""

"""What an answer is held to, and its grammar."""

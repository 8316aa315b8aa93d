"""Behind the commands that start, check and examine."""

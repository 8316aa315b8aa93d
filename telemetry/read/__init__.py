"""The read side: following files, decoding lines, searching captured content."""

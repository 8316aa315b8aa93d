"""The read side: following files, decoding lines, searching what was captured."""

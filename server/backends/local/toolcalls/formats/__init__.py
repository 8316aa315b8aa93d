"""The formats in which models write calls, one file each."""

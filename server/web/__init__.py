"""HTTP as clients write it: connections, origins, encodings, errors as responses."""

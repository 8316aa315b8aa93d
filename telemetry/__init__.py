"""What an event is, how it travels, and what it adds up to."""

import os

# Read by numpy when it is imported. Zeroing pages of 2 MB, one for each column at about the same
# number of requests, holds up the dashboard for 50 to 100 ms.
os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")

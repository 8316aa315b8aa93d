"""What the machine offers: BLAS, devices."""

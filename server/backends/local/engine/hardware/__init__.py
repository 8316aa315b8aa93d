"""Facilities of the machine: BLAS, devices."""

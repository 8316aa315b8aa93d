"""What every format's reader is made of."""

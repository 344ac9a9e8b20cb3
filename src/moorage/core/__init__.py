"""What should be, decided from plain data: no I/O, no clock, no randomness that is not passed in."""

"""What `tests` and `e2e` both use. It imports neither of them, nor `bench`."""

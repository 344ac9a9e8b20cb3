"""Health checks: TCP and HTTP(S), each on its own schedule."""

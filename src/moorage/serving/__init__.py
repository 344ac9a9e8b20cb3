"""Health and metrics over HTTP, for the operator and for node agents."""

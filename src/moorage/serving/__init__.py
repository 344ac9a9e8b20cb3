"""Health and metrics over HTTP, and the end by a signal, for the operator and for node agents."""

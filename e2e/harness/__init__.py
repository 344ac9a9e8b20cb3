"""Two real Kubernetes clusters on one machine, for the end-to-end tests."""

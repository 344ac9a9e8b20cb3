"""Moorage: sticky, health-checked connections from Kubernetes pods to services outside the cluster."""

__version__ = "0.1.0"

"""What speaks to servers that tenants choose, in processes of its own: health checks, and sources of endpoints."""

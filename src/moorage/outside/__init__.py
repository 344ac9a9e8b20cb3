"""Health checks and sources, in processes of their own, because they connect to servers that tenants choose."""

"""The operator: the one leader that discovers, checks, decides and writes."""

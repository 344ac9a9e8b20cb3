"""Sources of endpoints. Each is a loop that keeps a Resolution current."""

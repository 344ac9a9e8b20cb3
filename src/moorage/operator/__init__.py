"""The operator: its leader finds endpoints, checks them, decides what should be, and writes it."""

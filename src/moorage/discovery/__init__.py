"""Where endpoints come from: each source a loop that keeps a Resolution current."""

"""What went wrong with the harness itself, in a line or two."""


class HarnessError(Exception):
    """The clusters could not be made or used: says what failed, its last words, and what to do."""

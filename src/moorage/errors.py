"""The error that is meant for people."""


class MoorageError(Exception):
    """A problem that users can put right themselves or in their cluster.

    The message is one line that names the object, the field, what was wrong and what to do. The command line prints
    it and exits with 1, without a stack trace. Any other exception that escapes is a bug.
    """

"""The one error that is meant for a person."""


class MoorageError(Exception):
    """Something that a user or their cluster can put right.

    The message is one line that names the object, the field, what was wrong and what to do. The command line
    prints it and exits with 1; no stack trace is shown. Anything else that escapes is a bug.
    """

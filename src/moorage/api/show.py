"""Shows a value that somebody else wrote, in a one-line message."""

import json
import re

_PLAIN = re.compile(r"[A-Za-z0-9_.:/][A-Za-z0-9_./:@%+-]*")
_MAX_CHARACTERS = 80


def show(value: object) -> str:
    """`value` on one line of at most about 80 printable ASCII characters, whatever it holds.

    Words and addresses are shown as they are, other text with JSON's quotes and escapes (so no line break and no
    terminal escape sequence gets out), and of a collection only what kind it is.
    """
    if isinstance(value, str):
        if len(value) <= _MAX_CHARACTERS and _PLAIN.fullmatch(value):
            return value
        shown = json.dumps(value[:_MAX_CHARACTERS])
        return shown if len(value) <= _MAX_CHARACTERS else shown[:-1] + '..."'
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    return json.dumps(value, default=lambda other: type(other).__name__)

"""Writes plain values as YAML text that kubectl and `manifest_yaml` read as the same values.

PyYAML alone leaves out quotes around text that others read as a number or a boolean, such as 1e3, 010 and y.
"""

from typing import Any

import yaml

from moorage.api.manifest_yaml import TextError, resolve

_BREAKS = "\x85\u2028\u2029\ufeff"
"""Characters that are line breaks in YAML 1.1, and the byte order mark: only escapes preserve them."""


def dump(value: Any, *, sort_keys: bool = False, width: int = 80) -> str:
    """One document, without aliases: strings, numbers, booleans, None, and lists and string-keyed dicts of them."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=sort_keys, width=width, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(each in text for each in _BREAKS) else None if _stays(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _stays(text: str) -> bool:
    try:
        return isinstance(resolve(text, 1), str)
    except TextError:
        return False


_Dumper.add_representer(str, _text)

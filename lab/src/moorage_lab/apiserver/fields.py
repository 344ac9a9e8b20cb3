"""Sets of fields, as `managedFields` records them (structured-merge-diff's `fieldpath`, format `FieldsV1`).

A path is a tuple of elements in their serialized form: `f:NAME` for a field, `k:{"port":80,"protocol":"TCP"}` for
the item of a list merged by keys, `v:"x"` for the item of a list merged as a set.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.schema import KEY_DEFAULTS, Fields, Rule, Rules

Path = tuple[str, ...]

_ITEM: Final = object()
"""Stands for an item of a keyed list itself; its value is that of its fields."""

_META_NOT_OWNED = (
    *("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "generateName"),
)


def key_of(item: Any, rule: Rule) -> str:
    """The path element of a list's item."""
    if rule.set or not isinstance(item, dict):
        return "v:" + json.dumps(item, separators=(",", ":"))
    keys = {key: item.get(key, KEY_DEFAULTS.get(key)) for key in sorted(rule.keys)}
    return "k:" + json.dumps(keys, separators=(",", ":"))


def members(obj: Obj, rules: Rules) -> dict[Path, Any]:
    """Every field that the object has a value for, with that value: leaves, atomic parts, and items of keyed lists.

    Fields that no manager can own (type, name, server-side metadata) are left out.
    """
    found: dict[Path, Any] = {}

    def walk(value: Any, fields: Fields, path: Path) -> None:
        rule = rules.get(fields)
        if isinstance(value, dict) and value and not (rule and rule.atomic):
            for key, item in value.items():
                walk(item, (*fields, key), (*path, f"f:{key}"))
        elif isinstance(value, list) and value and rule and (rule.keys or rule.set):
            for item in value:
                place = (*path, key_of(item, rule))
                found[place] = _ITEM
                if isinstance(item, dict):
                    for key, inner in item.items():
                        walk(inner, (*fields, key), (*place, f"f:{key}"))
        else:
            found[path] = value

    for key, value in obj.items():
        if key == "metadata" and isinstance(value, dict):
            owned = {name: item for name, item in value.items() if name not in _META_NOT_OWNED}
            if owned:
                walk(owned, ("metadata",), ("f:metadata",))
        elif key not in ("apiVersion", "kind"):
            walk(value, (key,), (f"f:{key}",))
    return found


def changed(before: Obj, after: Obj, rules: Rules) -> tuple[set[Path], set[Path]]:
    """Paths added or modified from `before` to `after`, and paths removed."""
    old, new = members(before, rules), members(after, rules)
    set_ = {path for path, value in new.items() if path not in old or old[path] != value}
    return set_, old.keys() - new.keys()


def to_fields_v1(paths: Iterable[Path]) -> Obj:
    root: Obj = {}
    ordered = sorted(paths)
    for path in ordered:
        node = root
        for element in path:
            node = node.setdefault(element, {})
    for path in ordered:
        node = root
        for element in path:
            node = node[element]
        if node:
            node["."] = {}
    return root


def from_fields_v1(fields: Obj) -> set[Path]:
    found: set[Path] = set()

    def walk(node: Obj, path: Path) -> None:
        if path and (not node or "." in node):
            found.add(path)
        for element, inner in node.items():
            if element != "." and isinstance(inner, dict):
                walk(inner, (*path, element))

    walk(fields, ())
    return found


def display(path: Path) -> str:
    """A path in the form for messages: `.spec.ports[port=80,protocol="TCP"].targetPort`."""
    text = ""
    for element in path:
        tag, rest = element[:2], element[2:]
        if tag == "f:":
            text += f".{rest}"
        elif tag == "k:":
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text

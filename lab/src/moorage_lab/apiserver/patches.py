"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902)."""

import copy
from typing import Any

from moorage_lab.apiserver.status import bad_request, unprocessable


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` merged in (RFC 7386); neither is changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """`target` after the operations (RFC 6902), in order; `target` itself is not changed.

    Raises StatusError 400 for a malformed patch, and 422 for one that does not fit the object.
    """
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise bad_request("a JSON patch is a list of operations")
    document = {"": copy.deepcopy(target)}
    for operation in operations:
        _carry_out(document, operation)
    return document.get("")


def _carry_out(document: dict[str, Any], operation: dict[str, Any]) -> None:
    name, path = operation.get("op"), _pointer(operation.get("path"))
    match name:
        case "add" | "replace" | "test":
            if "value" not in operation:
                raise bad_request(f"JSON patch: {name} {operation['path']} has no value")
            value = copy.deepcopy(operation["value"])
            if name == "add":
                _add(document, path, value)
            elif name == "test":
                if _get(document, path) != value:
                    raise unprocessable(f"JSON patch: testing path {operation['path']} value failed")
            else:
                _get(document, path)
                _set(document, path, value)
        case "remove":
            _remove(document, path)
        case "move" | "copy":
            source = _pointer(operation.get("from"))
            value = copy.deepcopy(_get(document, source))
            if name == "move":
                _remove(document, source)
            _add(document, path, value)
        case _:
            raise bad_request(f"JSON patch: unknown operation {name!r}")


def _pointer(text: Any) -> list[str]:
    """The parts of a JSON pointer (RFC 6901) below the document's root, which is the member ""."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f"JSON patch: {text!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _missing(path: list[str]) -> Exception:
    return unprocessable(f"JSON patch: there is nothing at {'/'.join(path)}")


def _index(container: list[Any], part: str, path: list[str], end: int) -> int:
    if not part.isascii() or not part.isdigit() or int(part) >= end:
        raise _missing(path)
    return int(part)


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part, path, len(document))]
        else:
            raise _missing(path)
    return document


def _set(document: Any, path: list[str], value: Any) -> None:
    container = _get(document, path[:-1])
    container[path[-1] if isinstance(container, dict) else int(path[-1])] = value


def _add(document: Any, path: list[str], value: Any) -> None:
    container = _get(document, path[:-1])
    if isinstance(container, dict):
        container[path[-1]] = value
    elif isinstance(container, list):
        size = len(container)
        container.insert(size if path[-1] == "-" else _index(container, path[-1], path, size + 1), value)
    else:
        raise _missing(path)


def _remove(document: Any, path: list[str]) -> None:
    _get(document, path)
    container = _get(document, path[:-1])
    del container[path[-1] if isinstance(container, dict) else int(path[-1])]

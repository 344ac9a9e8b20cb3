"""Reads YAML and JSON text into plain values, as kubectl does (sigs.k8s.io/yaml), but stricter.

`on`, `yes` and `y` are booleans and `010` is eight, as for kubectl; timestamps and `12:30` stay text.
Duplicate keys, anchors that blow up, and tags other than YAML's own for JSON's types are refused. The text is read as
a stream of events on an explicit stack, so that no nesting, however deep, exhausts the interpreter's.
"""

import copy
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from moorage.api.show import show
from moorage.errors import MoorageError

_MAX_DEPTH = 100
_MAX_ALIASED_VALUES = 10_000
"""How many values all aliases of one document may stand for together."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML built without libyaml has no CSafeLoader
_TAG = "tag:yaml.org,2002:"


class Document(NamedTuple):
    """One YAML or JSON document."""

    line: int
    """The line where it starts, from 1."""
    value: Any
    """Strings, numbers, booleans, None, and lists and string-keyed dicts of them; at most 100 deep."""


class TextError(MoorageError):
    """A document that cannot be read: `line 7: what is wrong; what to do`."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class UnquotedError(TextError):
    """Its message quotes nothing of the text, which may be secret."""


class TooManyValuesError(UnquotedError):
    """More values than the caller allows."""


def documents(text: str) -> Iterator[Document | TextError]:
    """The documents of `text`, without empty ones; an error stands in for the document that it is in."""
    text = _clean(text)
    if not re.match(r'\s*\{\s*["}]', text):
        return (found for line, part in _parts(text) for found in _yaml_documents(part, line))
    try:
        return iter(list(_json_documents(text)))
    except json.JSONDecodeError as error:
        # A YAML flow mapping may begin the same way. If it is not valid YAML either, JSON was meant.
        found = [found for line, part in _parts(text) for found in _yaml_documents(part, line)]
        if any(isinstance(document, TextError) for document in found):
            problem = error.msg[:1].lower() + error.msg[1:]
            found = [TextError(error.lineno, f"not valid JSON: {problem}; look at the quotes, commas and brackets")]
        return iter(found)


def bounded_documents(text: str, most: int) -> Iterator[Document | TextError]:
    """Like `documents`, but in bounded time: it ends at the first error, and at more than `most` values.

    JSON is read as YAML, and aliases are refused. Each beginning and end of a document, mapping or list counts as a
    value, and so does each scalar; one takes some microseconds.
    """
    return _yaml_documents(_clean(text), 1, most)


def _clean(text: str) -> str:
    """The text without byte order marks, which may precede any document if files were joined (YAML 1.2, 5.2).

    `---#` begins a document for kubectl and Helm, whose templates produce it; in YAML it is text.
    """
    return re.sub(r"^---(?=#)", "--- ", re.sub(r"^\ufeff", "", text, flags=re.MULTILINE), flags=re.MULTILINE)


# --- JSON --------------------------------------------------------------------------------------------------------


class _DuplicateKeyError(Exception):
    pass


def _json_documents(text: str) -> Iterator[Document | TextError]:
    """JSON documents one after the other, which kubectl accepts; raises JSONDecodeError."""
    decoder = json.JSONDecoder(object_pairs_hook=_json_mapping, parse_constant=_refuse_constant)
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        line = text.count("\n", 0, position) + 1
        try:
            value, position = decoder.raw_decode(text, position)
        except _DuplicateKeyError as error:
            yield TextError(line, f"key {show(error.args[0])} is given twice in one mapping; keep one")
            return
        except RecursionError:
            yield TextError(line, _too_deep())
            return
        except json.JSONDecodeError:
            raise
        except ValueError as error:  # a number of thousands of digits, NaN or Infinity
            yield TextError(line, f"not valid JSON: {error}; use a finite number")
            return
        yield _checked(Document(line, value))


def _checked(document: Document) -> Document | TextError:
    if _depth(document.value) > _MAX_DEPTH:
        return TextError(document.line, _too_deep())
    try:
        json.dumps(document.value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return TextError(document.line, "half of a surrogate pair is not a character; remove the \\u escape")
    return document


def _json_mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise _DuplicateKeyError(key)
        mapping[key] = value
    return mapping


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number in JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _MAX_DEPTH:
        depth += 1
        level = [
            item
            for holder in level
            if isinstance(holder, dict | list)
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
    return depth


def _too_deep() -> str:
    return f"nested more than {_MAX_DEPTH} levels deep; flatten it"


# --- YAML --------------------------------------------------------------------------------------------------------


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The text cut before each `---`, with the line of each part, so that one bad document does not spoil the others.

    Only a document can start at such a line: not even a block scalar may contain one (YAML 1.1, 9.1.2).
    """
    line, part = 1, ""
    for piece in re.split(r"^(?=---(?:\s|$))", text, flags=re.MULTILINE):
        # Directives (%YAML 1.1) and comments belong to the document after them.
        if part.strip() and not all(row[:1] in ("", "#", "%") for row in map(str.strip, part.splitlines())):
            yield line, part
            line, part = line + part.count("\n"), ""
        part += piece
    yield line, part


def _yaml_documents(text: str, first_line: int, most: float = math.inf) -> Iterator[Document | TextError]:
    builder = _Builder(first_line, aliases=most == math.inf)
    try:
        for number, event in enumerate(yaml.parse(text, Loader=_LOADER), start=1):
            if number > most:
                line = builder.line_of(event)
                raise TooManyValuesError(line, f"more than {most} values; leave out what is not used")
            if builder.take(event):
                yield Document(builder.line, builder.value)
    except TextError as error:
        yield error
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        line = first_line + min(mark.line, text.rstrip().count("\n"))
        problem = " ".join(str(error.problem or error.context).split())
        yield TextError(
            line, f"not valid YAML: {problem}; look at the indentation, colons and quotes around this line"
        )
    except (yaml.reader.ReaderError, UnicodeEncodeError):
        yield TextError(first_line, "not valid YAML: holds a control character or half a character; remove it")


class _Frame:
    """A mapping or list that is not complete yet."""

    def __init__(self, anchor: str | None, line: int, mapping: bool) -> None:
        self.anchor = anchor
        self.line = line
        self.value: Any = {} if mapping else []
        self.key: str | None = None
        self.merging = False
        self.key_lines: dict[str, int] = {}
        self.merged: list[dict[str, Any]] = []
        self.size = 1
        self.depth = 1


class _Builder:
    """Builds the values of one part from its events."""

    def __init__(self, first_line: int, *, aliases: bool) -> None:
        self._first_line = first_line
        self._aliases_allowed = aliases
        self._begin(first_line)

    def _begin(self, line: int) -> None:
        self.line = line
        self.value: Any = None
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._aliased = 0

    def line_of(self, event: Any) -> int:
        """The line of the text on which an event of the parser begins, from 1."""
        below: int = event.start_mark.line
        return self._first_line + below

    def take(self, event: Any) -> bool:
        """Takes the next event. Returns whether it ended a document that is not empty. Raises TextError."""
        line = self.line_of(event)
        match event:
            case yaml.DocumentStartEvent():
                self._begin(line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()
            case yaml.ScalarEvent():
                value = _scalar(event, line)
                if event.anchor:
                    self._anchors[event.anchor] = (value, 1, 0)
                if not self._stack:
                    self.line = line
                merge = event.implicit[0] and event.value == "<<"
                self._add(value, 1, 0, line, merge=merge)
            case yaml.AliasEvent():
                self._alias(event.anchor or "", line)
            case yaml.DocumentEndEvent():
                return self.value is not None
        return False

    def _start(self, event: Any, line: int) -> None:
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise TextError(line, f"tag {_shown_tag(event.tag)} is not supported; remove it")
        mapping = isinstance(event, yaml.MappingStartEvent)
        if self._stack and isinstance(self._stack[-1].value, dict) and self._wants_key():
            raise TextError(line, "a mapping or list is used as a key; use text as the key")
        if not self._stack:
            self.line = line
        self._stack.append(_Frame(event.anchor, line, mapping))
        if len(self._stack) > _MAX_DEPTH:
            raise TextError(line, _too_deep())

    def _wants_key(self) -> bool:
        frame = self._stack[-1]
        return frame.key is None and not frame.merging

    def _end(self) -> None:
        frame = self._stack.pop()
        for merged in frame.merged:
            for key, value in merged.items():
                frame.value.setdefault(key, value)
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.value, frame.size, frame.depth)
        self._add(frame.value, frame.size, frame.depth, frame.line)

    def _alias(self, name: str, line: int) -> None:
        if name not in self._anchors:
            raise TextError(line, f"alias *{show(name)} has no anchor &{show(name)} that ends before it; define one")
        if not self._aliases_allowed:
            raise UnquotedError(line, "aliases are not supported; write the value out")
        value, size, depth = self._anchors[name]
        self._aliased += size
        if self._aliased > _MAX_ALIASED_VALUES:
            raise TextError(line, f"aliases stand for more than {_MAX_ALIASED_VALUES} values; write the values out")
        if len(self._stack) + depth > _MAX_DEPTH:
            raise TextError(line, _too_deep())
        self._add(copy.deepcopy(value), size, depth, line)

    def _add(self, value: Any, size: int, depth: int, line: int, *, merge: bool = False) -> None:
        if not self._stack:
            self.value = value
            return
        frame = self._stack[-1]
        frame.size += size
        frame.depth = max(frame.depth, depth + 1)
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.merging:
            self._merge(frame, value, line)
        elif frame.key is not None:
            frame.value[frame.key] = value
            frame.key = None
        elif merge:
            frame.merging = True
        else:
            key = _key(value, line)
            first = frame.key_lines.setdefault(key, line)
            if first != line or key in frame.value:
                raise TextError(line, f"key {show(key)} is given twice, first on line {first}; keep one")
            frame.key = key

    def _merge(self, frame: _Frame, value: Any, line: int) -> None:
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise TextError(line, "<< merges something that is not a mapping; name mappings only")
        frame.merged += sources
        frame.merging = False


def _key(value: Any, line: int) -> str:
    """A key as text, as JSON needs it: kubectl takes `80:` for "80" and `on:` for "true"."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise TextError(line, "a key is empty or not text; write text before the colon")


_BOOLS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS = ("", "~", "null", "Null", "NULL")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_MAX_NUMBER_CHARACTERS = 100
"""No field holds a longer number."""


def _shown_tag(tag: str) -> str:
    return f"!!{show(tag.removeprefix(_TAG))}" if tag.startswith(_TAG) else show(tag)


def _scalar(event: Any, line: int) -> Any:
    tag = event.tag
    if tag in (None, "!"):
        return resolve(event.value, line) if event.implicit[0] and tag is None else event.value
    if tag in (f"{_TAG}str", f"{_TAG}timestamp"):
        return event.value
    value = resolve(event.value, line)
    match tag.removeprefix(_TAG), value:
        case ("bool", bool()) | ("null", None):
            return value
        case ("int" | "float", int() | float()) if not isinstance(value, bool):
            return value
        case ("bool" | "null" | "int" | "float") as name, _:
            raise TextError(line, f"{show(event.value)} is not a !!{name}; remove the tag")
    raise TextError(line, f"tag {_shown_tag(tag)} is not supported; remove it")


def resolve(plain: str, line: int) -> Any:
    """The value of an unquoted scalar (resolve.go of the goyaml.v2 in sigs.k8s.io/yaml). Raises TextError."""
    if plain in _BOOLS:
        return _BOOLS[plain]
    if plain in _NULLS:
        return None
    if _NOT_FINITE.fullmatch(plain):
        raise TextError(line, f"{plain} is not a number that JSON can hold; use a finite number, or quotes")
    if plain[0] not in "+-.0123456789":
        return plain
    digits = plain.replace("_", "") if plain[0] != "." else plain
    if len(digits) > _MAX_NUMBER_CHARACTERS:
        return plain
    if _INTEGER.fullmatch(digits):
        return _integer(digits)
    if _FLOAT.fullmatch(digits):
        value = float(digits)
        # Go writes 80.0 to JSON as 80.
        return plain if math.isinf(value) else int(value) if value.is_integer() else value
    return plain


def _integer(digits: str) -> int:
    number = digits.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(number[:2], 8 if number.startswith("0") else 10)
    magnitude = int(number[2:] if number[:2] in ("0x", "0b", "0o") else number, base)
    return -magnitude if digits[0] == "-" else magnitude

"""Manifests: objects that a person wrote into files, read and checked.

Every error is one line that names the file, the object, the field, what is wrong and what to do:
`demo.yml: Service frontend/backend: spec.ports[0].port: 99999 is not a port; use 1 to 65535`.
"""

import codecs
import difflib
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from moorage.api.kinds import KINDS, Kind, find_kind, kind_of
from moorage.api.manifest_yaml import Document, TextError, documents
from moorage.api.meta import Object
from moorage.api.show import show
from moorage.api.validation import FieldError, validate, without_nulls
from moorage.errors import MoorageError

Source = str | Path | IO[str] | IO[bytes]
"""A file, a directory of `*.yml`, `*.yaml` and `*.json`, `-` for standard input, or an open stream."""

_SUFFIXES = (".yml", ".yaml", ".json")
_MAX_FILE_BYTES = 64 * 1024 * 1024
"""The most that is read of one file. It guards against inputs that never end, such as a device."""


class Manifest(NamedTuple):
    """One object of a manifest."""

    file: str
    """The name that the user gave; `standard input` for `-`."""
    document: int
    """The number of the document in its file, from 0; the items of a List share it."""
    line: int
    """The line where the document starts, from 1."""
    object: dict[str, Any]
    """Without nulls, and with the namespace filled in if the kind has one."""
    kind: Kind

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """None for kinds without namespace."""
        namespace = self.object["metadata"].get("namespace")
        return str(namespace) if namespace else None


class ManifestError(MoorageError):
    """Everything that is wrong with the manifests: one line for each of `errors`."""

    def __init__(self, errors: Iterable[MoorageError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def load(sources: Iterable[Source], *, namespace: str = "default") -> list[Manifest]:
    """All objects of `sources`, in order; raises ManifestError with every error if anything is wrong.

    Objects that name no namespace get `namespace`.
    """
    good, errors = read(sources, namespace=namespace)
    if errors:
        raise ManifestError(errors)
    return good


def load_only(
    types: Collection[type[Object]], sources: Iterable[Source], *, namespace: str = "default"
) -> tuple[list[Manifest], list[str]]:
    """The objects of `types`, as `load` reads them, and a line for each file that has kinds unknown to Moorage.

    Objects of other kinds are skipped, so that a file may hold whatever a cluster or kustomize has put into it.
    """
    kinds = [kind_of(type_) for type_ in types]
    good, errors, left_out = _read(sources, namespace, kinds)
    if errors:
        raise ManifestError(errors)
    return good, [
        f"{file}: left out, because Moorage does not read these kinds: {', '.join(sorted(names))}"
        for file, names in left_out.items()
    ]


def read(sources: Iterable[Source], *, namespace: str = "default") -> tuple[list[Manifest], list[MoorageError]]:
    """The valid objects of `sources`, in order, and the errors of all others. Raises nothing."""
    good, errors, _ = _read(sources, namespace, None)
    return good, errors


def _read(
    sources: Iterable[Source], namespace: str, kinds: Sequence[Kind] | None
) -> tuple[list[Manifest], list[MoorageError], dict[str, set[str]]]:
    """The valid objects of `kinds` (None: of all), the errors, and the unknown kinds that were left out, by file."""
    good: list[Manifest] = []
    errors: list[MoorageError] = []
    left_out: dict[str, set[str]] = {}
    seen: dict[tuple[str, str | None, str], Manifest] = {}
    for file, text in _texts(sources, errors):
        for index, document in enumerate(documents(text)):
            if isinstance(document, TextError):
                errors.append(MoorageError(f"{file}: {document}"))
                continue
            for item in _items(document.value):
                if kinds is not None and (foreign := _foreign(item, kinds)):
                    if find_kind(*foreign) is None:
                        left_out.setdefault(file, set()).add(_full_name(*foreign))
                    continue
                manifest, complaints = _manifest(file, index, document, item, namespace)
                errors += complaints
                if manifest is None:
                    continue
                first = seen.setdefault((manifest.kind.plural, manifest.namespace, manifest.name), manifest)
                if first is manifest:
                    good.append(manifest)
                else:
                    where = f"first in {first.file}, line {first.line}"
                    what = describe(manifest.object)
                    errors.append(MoorageError(f"{file}: {what}: given twice, {where}; keep one or rename one"))
    return good, errors, left_out


def describe(obj: dict[str, Any]) -> str:
    """`Service frontend/backend`, or as much of it as the object has."""
    metadata = obj.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    names = [show(found[key]) for key in ("namespace", "name") if isinstance(found.get(key), str) and found[key]]
    return " ".join([show(obj.get("kind")), "/".join(names)]).strip()


# --- Files -------------------------------------------------------------------------------------------------------


def _texts(sources: Iterable[Source], errors: list[MoorageError]) -> Iterator[tuple[str, str]]:
    """Name and text of every file of `sources`; files that cannot be read go to `errors`."""
    for source in sources:
        file = _name(source)
        try:
            if isinstance(source, str | Path) and str(source) != "-" and Path(source).is_dir():
                yield from _directory(Path(source), errors)
            else:
                yield file, _text(source)
        except OSError as error:
            errors.append(MoorageError(f"{file}: {error.strerror or error}; name a file that can be read"))
        except ValueError as error:
            errors.append(MoorageError(f"{file}: {_why_not_text(error)}"))


def _name(source: Source) -> str:
    if isinstance(source, str | Path):
        return "standard input" if str(source) == "-" else _printable(str(source))
    name = getattr(source, "name", None)
    return "standard input" if name == "<stdin>" else _printable(name) if isinstance(name, str) else "input"


def _printable(name: str) -> str:
    return name if name.isprintable() else show(name)


def _directory(directory: Path, errors: list[MoorageError]) -> Iterator[tuple[str, str]]:
    files = sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES and not path.is_dir())
    if not files:
        message = "no *.yml, *.yaml or *.json in this directory; name a file, or another directory"
        errors.append(MoorageError(f"{_printable(str(directory))}: {message}"))
    yield from _texts(files, errors)


def _text(source: Source) -> str:
    if isinstance(source, str | Path):
        if str(source) == "-":
            return _text(getattr(sys.stdin, "buffer", sys.stdin))
        with open(source, "rb") as stream:
            return _text(stream)
    content = source.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes; split it into files")
    if isinstance(content, str):
        return content
    # As in kubectl: PowerShell writes UTF-16.
    return content.decode("utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8")


def _why_not_text(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding.upper()} text at byte {error.start}; save it as UTF-8"
    return str(error) if str(error).startswith("more than") else "not a file name; name a file that can be read"


# --- Objects -----------------------------------------------------------------------------------------------------


def _items(value: Any) -> list[Any]:
    """The objects of a document: itself, or those of a `List` or `ServiceList`, which may hold further lists."""
    if not isinstance(value, dict) or not isinstance(value.get("items"), list):
        return [value]
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind.endswith("List"):
        return [value]
    found = []
    for item in value["items"]:
        if isinstance(item, dict) and kind != "List":  # the items of a typed list need not have apiVersion and kind
            item = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
        found += _items(item)
    return found


def _foreign(value: Any, kinds: Sequence[Kind]) -> tuple[str, str] | None:
    """The apiVersion and kind of an object that is not one of `kinds`, nor a misspelling of one."""
    if not isinstance(value, dict):
        return None
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if not (isinstance(api_version, str) and isinstance(kind, str) and api_version and kind):
        return None
    close = [known.kind.lower() for known in kinds if known.group == _group(api_version)]
    if difflib.get_close_matches(kind[:80].lower(), close, n=1, cutoff=0.8):
        return None
    return api_version, kind


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _full_name(api_version: str, kind: str) -> str:
    return ".".join(show(part) for part in (kind, _group(api_version)) if part)


def _manifest(
    file: str, index: int, document: Document, value: Any, namespace: str
) -> tuple[Manifest | None, list[MoorageError]]:
    where = f"{file}: line {document.line}"
    if not isinstance(value, dict):
        message = f"{show(value)} is not an object; write a mapping with apiVersion, kind and metadata"
        return None, [MoorageError(f"{where}: {message}")]
    obj = without_nulls(value)
    for key, example in (("apiVersion", "v1"), ("kind", "Service")):
        if not isinstance(obj.get(key), str) or not obj[key]:
            problem = "missing" if key not in obj else f"{show(obj[key]) or 'empty text'} is not a name"
            return None, [MoorageError(f"{where}: {key}: {problem}; set it, for example {key}: {example}")]
    kind = find_kind(obj["apiVersion"], obj["kind"])
    if kind is None:
        return None, [MoorageError(f"{where}: {_unknown_kind(obj['apiVersion'], obj['kind'])}")]
    metadata = obj.get("metadata")
    if kind.namespaced and isinstance(metadata, dict) and not metadata.get("namespace"):
        metadata["namespace"] = namespace
    errors = validate(obj, strict=True)
    if isinstance(metadata, dict) and not metadata.get("name") and metadata.get("generateName"):
        message = "missing; name the object (generateName is not supported in manifests)"
        errors.append(FieldError("metadata.name", "FieldValueRequired", message))
    if errors:
        named = isinstance(metadata, dict) and isinstance(metadata.get("name"), str) and metadata["name"]
        label = f"{file}: {describe(obj)}" if named else f"{where}: {obj['kind']}"
        return None, [MoorageError(f"{label}: {error}") for error in errors]
    return Manifest(file, index, document.line, obj, kind), []


def _unknown_kind(api_version: str, kind: str) -> str:
    by_name = {known.kind: known for known in KINDS}
    if kind in by_name:
        right = by_name[kind].api_version
        return f"apiVersion: {show(api_version)} has no {kind}; write apiVersion: {right}"
    lowered = {name.lower(): name for name in by_name}
    close = difflib.get_close_matches(kind[:80].lower(), lowered, n=1, cutoff=0.7)
    if close:
        known = by_name[lowered[close[0]]]
        return f"kind: {show(kind)} is unknown; did you mean {known.kind} ({known.api_version})?"
    return f"kind: {show(kind)} is unknown; remove the object, or use one of: {', '.join(sorted(by_name))}"

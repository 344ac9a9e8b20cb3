import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.core_v1 import Service
from moorage.api.manifest import Manifest, ManifestError, describe, load, load_only, read
from moorage.errors import MoorageError

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: backend
  creationTimestamp: null
spec:
  ports: [{port: 80}]
"""
DEMO = Path(__file__).parents[2] / "deploy" / "demo"


def names(text: str) -> list[tuple[str, str | None, str]]:
    return [(item.kind.kind, item.namespace, item.name) for item in load([io.StringIO(text)])]


def test_a_manifest_knows_where_it_comes_from() -> None:
    (manifest,) = load([io.StringIO("# comment\n---\n" + SERVICE)], namespace="frontend")
    assert (manifest.file, manifest.document, manifest.line) == ("input", 0, 3)
    assert (manifest.kind.plural, manifest.namespace, manifest.name) == ("services", "frontend", "backend")
    assert manifest.object["metadata"] == {"name": "backend", "namespace": "frontend"}
    assert describe(manifest.object) == "Service frontend/backend"


def test_the_demos_manifests_have_no_errors() -> None:
    kinds = {manifest.kind.kind for file in DEMO.iterdir() for manifest in load([file])}
    assert {"Namespace", "Deployment", "Service", "EndpointSlice"} <= kinds


def test_lists_are_taken_apart_also_typed_and_nested_ones() -> None:
    text = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- apiVersion: v1
  kind: ServiceList
  metadata: {resourceVersion: "5"}
  items:
  - {metadata: {name: b, namespace: a}, spec: {ports: [{port: 80}]}}
"""
    assert names(text) == [("Namespace", None, "a"), ("Service", "a", "b")]


def test_a_directory_is_read_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(SERVICE.replace("backend", "b"))
    (tmp_path / "a.yml").write_text(SERVICE.replace("backend", "a"))
    (tmp_path / "c.json").write_text('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}')
    (tmp_path / "notes.txt").write_text("not: [read")
    found = load([tmp_path])
    assert [(Path(item.file).name, item.name) for item in found] == [("a.yml", "a"), ("b.yaml", "b"), ("c.json", "c")]


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SERVICE.encode())))
    assert [(item.file, item.name) for item in load(["-"])] == [("standard input", "backend")]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    for encoding in ("utf-8-sig", "utf-16"):  # as Windows' editors and PowerShell write
        assert len(load([io.BytesIO(SERVICE.encode(encoding))])) == 1
    assert len(load([io.StringIO("\ufeff" + SERVICE)])) == 1


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: None, "No such file or directory; name a file that can be read"),
        (
            lambda path: path.mkdir(),
            "no *.yml, *.yaml or *.json in this directory; name a file, or another directory",
        ),
        (lambda path: path.write_bytes(b"a: \xff"), "not UTF-8 text at byte 3; save it as UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(make: object, line: str, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / "x")
    with pytest.raises(ManifestError) as caught:
        load([tmp_path / "x"])
    assert str(caught.value) == f"{tmp_path / 'x'}: {line}"


def test_what_is_too_large_for_a_manifest_is_not_read_to_its_end() -> None:
    with open("/dev/zero", "rb") as endless, pytest.raises(ManifestError) as caught:
        load([endless])
    assert str(caught.value) == "/dev/zero: more than 67108864 bytes; split it into files"


def test_a_file_name_cannot_break_the_line() -> None:
    _, (error,) = read(["a\nb\x00"])
    assert str(error) == '"a\\nb\\u0000": not a file name; name a file that can be read'


def test_every_error_is_reported_and_nothing_right_is_lost() -> None:
    text = "---\n".join([SERVICE, "hello\n", SERVICE.replace("80", "0").replace("backend", "b"), "kind: [\n"])
    good, errors = read([io.StringIO(text)])
    assert [item.name for item in good] == ["backend"]
    assert [str(error).split(": ")[1] for error in errors] == ["line 9", "Service default/b", "line 19"]
    with pytest.raises(ManifestError) as caught:
        load([io.StringIO(text)])
    assert str(caught.value).splitlines() == [str(error) for error in errors]


def test_an_object_given_twice_counts_once_also_across_files(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(SERVICE)
    good, errors = read([tmp_path / "a.yml", tmp_path / "b.yml"])
    assert len(good) == 1
    where = f"{tmp_path}/b.yml: Service default/backend: given twice, first in {tmp_path}/a.yml, line 1"
    assert [str(error) for error in errors] == [f"{where}; keep one or rename one"]


def test_one_name_in_two_namespaces_or_kinds_is_two_objects() -> None:
    text = SERVICE + "---\n" + SERVICE.replace("backend", "backend\n  namespace: other")
    text += "---\n{apiVersion: v1, kind: Namespace, metadata: {name: backend}}\n"
    assert len(names(text)) == 3


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_no_bytes_raise_anything_but_a_moorage_error(content: bytes) -> None:
    try:
        load([io.BytesIO(content)])
    except MoorageError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))  # noqa: PT017


@given(st.data())
def test_no_damage_to_a_manifest_raises_anything_but_a_moorage_error(data: st.DataObject) -> None:
    text = (DEMO / "k8s-frontend.yml").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    damaged = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
    good, errors = read([io.BytesIO(damaged.encode(errors="replace"))])
    assert all(str(error).isprintable() for error in errors)
    assert good or errors


@pytest.mark.parametrize(
    ("kind", "message"), [("Service", ": items: unknown field; "), ("7", ": kind: 7 is not a name; ")]
)
def test_only_what_is_a_list_is_looked_into(kind: str, message: str) -> None:
    text = f"{{apiVersion: v1, kind: {kind}, metadata: {{name: a}}, items: [{{apiVersion: v1, kind: Namespace}}]}}"
    good, errors = read([io.StringIO(text)])
    assert good == []
    assert any(message in str(error) for error in errors)


def test_of_kinds_that_are_not_asked_for_only_those_that_are_no_misspelling_are_left_out() -> None:
    def reading(api_version: str, kind: str) -> tuple[list[Manifest], list[str]]:
        text = f"{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}"
        return load_only((Service,), [io.StringIO(text)])

    assert reading("v1", "Namespace") == ([], [])
    assert reading("example.com/v1", "Servise") == (
        [],
        ["input: left out, because Moorage does not read these kinds: Servise.example.com"],
    )
    with pytest.raises(ManifestError, match=r"kind: Servise is unknown; did you mean Service \(v1\)\?"):
        reading("v1", "Servise")

"""The operator's configuration: strict, and errors name file and field."""

from pathlib import Path

import pytest

from moorage.errors import MoorageError
from moorage.operator.config import Admission, Configuration, Moorings, load, read

FILE = Path("operator.yaml")


def test_without_a_file_and_with_an_empty_one_the_defaults_hold(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing yet\n")
    assert load(None) == load(empty) == Configuration()


def test_what_is_written_is_taken() -> None:
    text = """
admission:
  allow: [198.18.0.0/15, "2001:db8::/32"]
  refuse: [10.244.0.0/16]
logLevel: debug
logFormat: text
moorings: {graceSeconds: 60}
workers: 4
"""
    assert read(text, FILE) == Configuration(
        admission=Admission(allow=("198.18.0.0/15", "2001:db8::/32"), refuse=("10.244.0.0/16",)),
        log_level="debug",
        log_format="text",
        moorings=Moorings(grace_seconds=60),
        workers=4,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("admision: {}", "configuration operator.yaml: admision: there is no such field; take it out"),
        (
            "admission: {allowed: []}",
            "configuration operator.yaml: admission.allowed: there is no such field; take it out",
        ),
        ("logLevel: info\nlogLevel: debug", "configuration operator.yaml: line 2: key logLevel is given twice"),
        (
            "admission: {allow: [10.0.0.1/8]}",
            "configuration operator.yaml: admission.allow[0]: 10.0.0.1/8 has host bits set; "
            "write a range such as 10.244.0.0/16",
        ),
        (
            "admission: {refuse: [10.0.0.0/8, pods]}",
            "configuration operator.yaml: admission.refuse[1]: 'pods' does not appear to be an IPv4 or IPv6 network; "
            "write a range such as 10.244.0.0/16",
        ),
        ("admission: [10.0.0.0/8]", "configuration operator.yaml: admission: expected a mapping, got array"),
        ("admission: {allow: [8]}", "configuration operator.yaml: admission.allow[0]: expected str, got int"),
        ("logLevel: loud", "configuration operator.yaml: logLevel: loud is not one of debug, info, warning, error"),
        ("logFormat: xml", "configuration operator.yaml: logFormat: xml is not one of json, text"),
        ("workers: 0", "configuration operator.yaml: workers: 0 is not between 1 and 256"),
        ("workers: many", "configuration operator.yaml: workers: expected int, got str"),
        (
            "moorings: {graceSeconds: -1}",
            "configuration operator.yaml: moorings.graceSeconds: -1 is not between 0 and 2592000",
        ),
        ("- a", "configuration operator.yaml: expected a mapping, got array"),
        ("a: 1\n---\nb: 2", "configuration operator.yaml: holds 2 YAML documents; keep one"),
        ("a: [", "configuration operator.yaml: line 1: "),
    ],
)
def test_what_is_wrong_is_named_with_file_and_field(text: str, message: str) -> None:
    with pytest.raises(MoorageError) as caught:
        read(text, FILE)
    assert str(caught.value).startswith(message)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match=r"configuration .*none.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(MoorageError, match="is not UTF-8 text"):
        load(tmp_path / "binary")

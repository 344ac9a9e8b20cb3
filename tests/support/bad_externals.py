"""The corpus of ExternalServices and Moorings that must be refused: tests/api/bad_externals.yml."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).parents[1] / "api" / "bad_externals.yml"


class Bad(NamedTuple):
    what: str
    object: dict[str, Any]
    server: list[str]
    """What kubectl shows of the API server's answer."""
    moorage: list[str]
    """What `api.validation` says."""


def corpus(namespace: str = "frontend") -> list[Bad]:
    """All of them, as objects of a namespace."""
    return [_bad(case, namespace) for case in yaml.safe_load(FILE.read_text())]


def _bad(case: dict[str, Any], namespace: str) -> Bad:
    obj = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": case.get("kind", "ExternalService"),
        "metadata": {"name": case.get("name", "backend"), "namespace": namespace},
        **({"spec": case["spec"]} if "spec" in case else {}),
    }
    return Bad(case["what"], obj, case["server"], case["moorage"])

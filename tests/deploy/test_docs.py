"""What the documentation lists is what there is, all of it and no more."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moorage.api import crds
from moorage.api.kinds import kind_of
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core import progress
from moorage.node.metrics import Metrics as NodeMetrics
from moorage.operator.metrics import Metrics

ROOT = Path(__file__).parents[2]
FIELDS = (ROOT / "docs/externalservice.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
KUBERNETES_OWN = ("selector", "podSelector", "kubeconfigSecretRef", "caSecretRef")
"""Fields whose own fields are told in a sentence."""


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    if "properties" in schema and path.rpartition(".")[2] not in KUBERNETES_OWN:
        for name, part in schema["properties"].items():
            yield from leaves(part, f"{path}.{name}".lstrip("."))
    elif schema.get("type") == "array" and "properties" in schema["items"]:
        yield from leaves(schema["items"], f"{path}[]")
    else:
        yield path


def first_cells(text: str) -> set[str]:
    """What stands in backquotes in the first column of tables."""
    return {
        word for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for word in re.findall(r"`(.*?)`", cell)
    }


def test_every_field_of_a_spec_is_listed_and_no_other() -> None:
    spec = crds.schema(kind_of(ExternalService))["properties"]["spec"]
    fields = set(leaves(spec))
    parents = {field.rpartition(".")[0] for field in fields}
    assert fields - first_cells(FIELDS) == set()
    assert first_cells(FIELDS) - fields - parents == set()


def test_every_metric_is_listed_and_no_other() -> None:
    text = b"".join(metrics().text() for metrics in (Metrics, NodeMetrics)).decode()
    shown = re.findall(r"^# TYPE (moorage_\w+)", text, re.MULTILINE)
    assert {word for word in first_cells(OPERATING) if word.startswith("moorage_")} == set(shown)


def test_every_reason_of_a_condition_is_listed() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src/moorage").rglob("*.py"))
    patterns = (
        r'ConditionValue\(\s*"(?:True|False|Unknown)",\s*"(\w+)"',
        r'Complaint\(\s*"(\w+)"',
        r'"(Withheld)" if .* else "(NoneReady)"',
        r'_refused\(\s*"([A-Z]\w+)"',
        r'Problem\(\s*"([A-Z]\w+)"',
        r'\breason(?:, what)? = "([A-Z]\w+)"',
        r'"(NoneHealthy)" if .* else "(SomeUnhealthy)"',
        r'"(Resolved)" if .* else "(Empty)"',
    )
    reasons = {word for pattern in patterns for match in re.finditer(pattern, source) for word in match.groups()}
    assert {
        "AddressRefused",
        "TooManyEndpoints",
        "SecretMissing",
        "NotChecked",
        "NameTaken",
        "SomeUnhealthy",
        "Empty",
    } <= reasons
    assert reasons - first_cells(OPERATING) == set()


def test_every_reason_that_stalls_is_listed() -> None:
    section = OPERATING.partition("### Reconciling and Stalled")[2].partition("## Argo CD and Flux")[0]
    listed = set(re.findall(r"`(\w+)`", section))
    assert (progress.OF_THE_SPEC | progress.NOT_READY) - listed == set()

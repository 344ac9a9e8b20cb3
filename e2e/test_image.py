"""The container image, as it is handed to clusters. tests/deploy/test_image.py holds what goes into it."""

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import image
from moorage import __version__

LARGEST = 220 << 20
"""Bytes of the image as nodes unpack it."""


@pytest.fixture(scope="module")
def archive() -> Path:
    return image.build()


@pytest.fixture(scope="module")
def config(archive: Path) -> dict[str, Any]:
    """The image's configuration: User, Entrypoint and so on."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(read(tar, "manifest.json"))
        found = json.loads(read(tar, manifest["Config"]))["config"]
    assert isinstance(found, dict)
    return found


def read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    assert member is not None
    return member.read()


def test_it_is_small(archive: Path) -> None:
    size = archive.stat().st_size
    with archive.open("rb") as file:
        compressed = sum(len(gzip.compress(chunk, 6)) for chunk in iter(lambda: file.read(16 << 20), b""))
    print(f"the image: {size >> 20} MiB, {compressed >> 20} MiB as a registry keeps it")
    assert size < LARGEST


def test_it_has_the_name_that_manifests_use(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(read(tar, "manifest.json"))
    assert "moorage:latest" in {name.removeprefix("docker.io/library/") for name in manifest["RepoTags"]}


def test_it_runs_moorage_as_a_user_whose_number_is_not_root_s(config: dict[str, Any], archive: Path) -> None:
    assert config["Entrypoint"] == ["moorage"]
    assert config["User"] == "65532:65532"
    assert image.run(archive, "id", "-u").strip() == "65532"


def test_it_has_this_version_and_all_that_moorage_runs(archive: Path) -> None:
    script = """
        moorage --version
        echo '{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}' | moorage render -f -
        nft --version
        python3 --version
        conntrack --version
        ip -V
    """
    printed = image.run(archive, "sh", "-euc", script)
    assert f"moorage {__version__}\n" in printed
    assert "table inet moorage" in printed
    assert "nftables v1.1" in printed, "with 1.0, IPv6 sessions cannot be learned"
    assert "Python 3.13." in printed, "docs/support.md says so"
    for tool in ("conntrack v", "ip utility"):
        assert tool in printed


def test_it_has_neither_tools_that_build_nor_settings_of_the_machine_that_built_it(archive: Path) -> None:
    script = """
        for tool in pip pip3 gcc cc make curl; do
            command -v $tool || true
        done
        for file in /etc/pip.conf /etc/build-certificates.crt /etc/apt/apt.conf.d/99build; do
            if [ -s $file ]; then echo $file; fi
        done
    """
    assert image.run(archive, "sh", "-euc", script) == ""


def test_nothing_that_moorage_consists_of_may_be_changed_by_its_user(archive: Path) -> None:
    assert image.run(archive, "find", "/opt/moorage", "-writable", "!", "-type", "l") == ""

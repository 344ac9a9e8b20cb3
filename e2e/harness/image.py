"""The container image of the tests, built from the Dockerfile without a registry.

The Dockerfile's base is made by debootstrap, under the name that the Dockerfile gives it. pip and apt inside use what
pip and apt on this machine use: their settings are mounted while they run, and the image does not keep them.

`python -m e2e.harness.image` makes it and prints its archive.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.harness import caches
from e2e.harness.errors import HarnessError

MOORAGE = "docker.io/library/moorage:latest"
"""What Kubernetes takes `image: moorage:latest` for."""
_ROOT = Path(__file__).parents[2]
_INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "deploy/image",
    "src",
)
_BASE = "docker.io/library/debian:trixie-slim"
_UNWANTED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
"""Of debootstrap's tree: what Debian's own slim images leave out, too."""
_STORAGE = "buildah-1"
"""Its number counts the changes of how the base is made."""
_STORAGE_LIMIT = 12 << 30
"""Bytes of layers, after which they are forgotten and made anew."""
_ARCHIVES_KEPT = 3
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_APT_SETTINGS = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")


def build() -> Path:
    """The docker-archive of `moorage:latest` as the Dockerfile makes it of this work tree, from the cache or built.

    Takes a minute or two from nothing, and seconds where only `src` changed. Raises HarnessError.
    """

    def make(directory: Path) -> None:
        print("e2e: building the image moorage:latest", file=sys.stderr, flush=True)
        build_from(_ROOT, MOORAGE, directory / "image.tar")

    archive = caches.made(f"image-{caches.key(*_contents())}", make) / "image.tar"
    os.utime(archive.parent)
    _forget_old_archives()
    return archive


def build_from(context: Path, name: str, archive: Path) -> None:
    """Build the image that the Dockerfile of a directory makes, as a docker-archive. Raises HarnessError."""
    with _buildah() as buildah, _machine_settings() as settings:
        _need_base(buildah)
        bud = [*buildah, "bud", "--isolation", "chroot", "--layers", "--pull-never", *settings, "--tag", name]
        _run([*bud, str(context)])
        _run([*buildah, "push", "--quiet", name, f"docker-archive:{archive}:{name}"])


def run(archive: Path, *argv: str) -> str:
    """What a command prints in a container of an image, as the image's user. Raises HarnessError when it fails."""
    with _buildah() as buildah:
        container = _run([*buildah, "from", f"docker-archive:{archive}"]).strip()
        try:
            return _run([*buildah, "run", "--isolation", "chroot", container, "--", *argv])
        finally:
            _run([*buildah, "rm", container])


def unpack(archive: Path, directory: Path) -> None:
    """Put an image's file system into a directory, layer by layer. Raises HarnessError."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    for layer in manifest["Layers"]:
        with subprocess.Popen(["tar", "-xOf", str(archive), layer], stdout=subprocess.PIPE) as reading:
            done = subprocess.run(["tar", "-xf", "-", "-C", str(directory)], stdin=reading.stdout, check=False)
        if done.returncode or reading.returncode:
            raise HarnessError(f"{archive}: layer {layer} cannot be unpacked; delete {archive.parent} and try again")


def _contents() -> Iterator[bytes]:
    """The names and contents of all that the image is made of."""
    for name in _INPUTS:
        top = _ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(_ROOT)).encode()
                yield path.read_bytes()


@contextmanager
def _buildah() -> Iterator[list[str]]:
    """The start of buildah's command line, with storage of its own in the cache; one user at a time."""
    if shutil.which("buildah") is None:
        raise HarnessError("there is no buildah to build images with; install the Debian package buildah")
    with caches.locked("buildah.lock"), tempfile.TemporaryDirectory(prefix="moorage-e2e-buildah-") as run:
        for driver in ("overlay", "vfs"):  # the second where a file system is itself an overlay, as in a container
            storage = caches.directory() / f"{_STORAGE}-{driver}"
            if storage.is_dir() and _size(storage) > _STORAGE_LIMIT:
                shutil.rmtree(storage)
            argv = ["buildah", "--storage-driver", driver, "--root", str(storage), "--runroot", run]
            if driver == "vfs" or _works([*argv, "info"]):
                break
        yield argv


def _need_base(buildah: Sequence[str]) -> None:
    """Make the base image of the Dockerfile with debootstrap where it is not there yet."""
    if _BASE in _run([*buildah, "images", "--noheading", "--format", "{{.Name}}:{{.Tag}}"]).split():
        return
    if shutil.which("debootstrap") is None:
        raise HarnessError(
            "there is no debootstrap to make a base image with; install the Debian package debootstrap"
        )
    with tempfile.TemporaryDirectory(prefix="base-", dir=caches.directory()) as directory:
        root = Path(directory) / "root"
        _run(["debootstrap", "--variant=minbase", "trixie", str(root)])
        for unwanted in _UNWANTED:
            shutil.rmtree(root / unwanted, ignore_errors=True)
            (root / unwanted).mkdir(parents=True)
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        container = _run([*buildah, "from", "scratch"]).strip()
        try:
            _run([*buildah, "add", "--quiet", container, str(root), "/"])
            _run([*buildah, "config", "--cmd", '["bash"]', container])
            _run([*buildah, "commit", "--quiet", container, _BASE])
        finally:
            _run([*buildah, "rm", container])


@contextmanager
def _machine_settings() -> Iterator[list[str]]:
    """Options of `buildah bud` by which pip and apt in it find what they find on this machine."""
    options = [
        f"--build-arg={name}={os.environ[name]}"
        for proxy in _PROXIES
        for name in (proxy, proxy.upper())
        if os.environ.get(name)
    ]
    with tempfile.TemporaryDirectory(prefix="moorage-e2e-settings-") as directory:
        pip = _pip_settings()
        certificates = pip.pop("cert", None) or os.environ.get("SSL_CERT_FILE")
        if certificates and Path(certificates).is_file():
            options.append(f"--volume={certificates}:/etc/build-certificates.crt:ro")
            pip["cert"] = "/etc/build-certificates.crt"
        apt = _run(["apt-config", "dump"]).splitlines() if shutil.which("apt-config") else []
        files = {
            "/etc/pip.conf": ["[global]", *(f"{name} = {value}" for name, value in pip.items())],
            "/etc/apt/apt.conf.d/99build": [line for line in apt if line.startswith(_APT_SETTINGS)],
        }
        for number, (target, lines) in enumerate(files.items()):
            path = Path(directory) / str(number)
            path.write_text("".join(f"{line}\n" for line in lines))
            options.append(f"--volume={path}:{target}:ro")
        yield options


def _pip_settings() -> dict[str, str]:
    """What pip is told here, by files and by the environment, that concerns where packages come from."""
    found = {}
    listing = _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"])
    for scope in ("global", "install", "download", ":env:"):  # the last one wins, as it does for pip
        for name, value in re.findall(rf"^{scope}\.([a-z-]+)='(.*)'$", listing, re.MULTILINE):
            if name in ("cert", *_PIP_SETTINGS):
                found[name] = value.replace(r"\n", " ")
    return found


def _forget_old_archives() -> None:
    """Keep the archives that were used last; each has the size of the image."""
    archives = [path for path in caches.directory().glob("image-*/") if ".draft-" not in path.name]
    archives.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in archives[_ARCHIVES_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def _size(directory: Path) -> int:
    """Bytes on disk under a directory."""
    return int(_run(["du", "--summarize", "--one-file-system", "--block-size=1", str(directory)]).split()[0])


def _works(argv: Sequence[str]) -> bool:
    try:
        _run(argv)
    except HarnessError:
        return False
    return True


def _run(argv: Sequence[str]) -> str:
    """The output of a program in the work tree. Raises HarnessError with its last words."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(argv, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise HarnessError(f"{' '.join(argv[:1])} failed ({done.returncode}): {' '.join(argv)}\n{words}")
    return done.stdout


if __name__ == "__main__":
    print(build())

"""The image that holds a pod's namespaces, made without a registry."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

from e2e.harness import builds, caches

PAUSE = "moorage.dev/e2e/pause:1"


def archive() -> Path:
    """A docker-archive of it: one layer with one static program."""
    program = builds.program("pause").read_bytes()

    def make(directory: Path) -> None:
        layer = _tar({"pause": program}, mode=0o755)
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
        files = {"manifest.json": _json(manifest), "config.json": _json(config), "layer.tar": layer}
        (directory / "image.tar").write_bytes(_tar(files))

    return caches.made(f"pause-image-{caches.key(program, PAUSE)}", make) / "image.tar"


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = mode
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()

"""The distributions of this checkout, as `pip` would install them."""

import functools
import io
import subprocess
import sys
import tempfile
from pathlib import Path


def built_wheel(project: Path) -> io.BytesIO:
    """The wheel of the distribution whose pyproject.toml is in this directory."""
    return io.BytesIO(_wheel(project))


@functools.cache
def _wheel(project: Path) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
        subprocess.run(build, cwd=project, check=True, capture_output=True)
        [wheel] = Path(directory).glob("*.whl")
        return wheel.read_bytes()

"""How a person calls this program, for commands in messages and help."""

import functools
import os
import shutil
import sys

VARIABLE = "MOORAGE_PROGRAM"
"""The environment variable with what people type."""


@functools.cache
def name() -> str:
    """`moorage` if a shell finds that, else the path by which it was called, such as `.venv/bin/moorage`.

    The first call decides, because PATH may be changed later to find other programs. A parent process passes the
    result on in `VARIABLE`.
    """
    return os.environ.get(VARIABLE) or called(sys.argv[0], sys.executable, os.environ.get("PATH", os.defpath))


def called(script: str, python: str, path: str) -> str:
    """What to type for `script`, which `python` runs, if a shell searches `path`. Relative paths are kept."""
    file = os.path.basename(script)
    if file not in ("moorage", "__main__.py") or shutil.which("moorage", path=path):
        return "moorage"
    return script if file == "moorage" else f"{python} -m moorage"

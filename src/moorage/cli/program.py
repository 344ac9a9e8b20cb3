"""How a person calls this program, for the commands that messages and help name."""

import functools
import os
import shutil
import sys

VARIABLE = "MOORAGE_PROGRAM"
"""In the environment: what people type."""


@functools.cache
def name() -> str:
    """`moorage` where a shell finds that, else the path by which it was called, such as `.venv/bin/moorage`.

    As of the first call: what looks for other programs may change PATH later. A program that another one starts is
    told with `VARIABLE`.
    """
    return os.environ.get(VARIABLE) or called(sys.argv[0], sys.executable, os.environ.get("PATH", os.defpath))


def called(script: str, python: str, path: str) -> str:
    """What to type for `script`, which `python` runs, where a shell searches `path`. Relative paths are kept."""
    file = os.path.basename(script)
    if file not in ("moorage", "__main__.py") or shutil.which("moorage", path=path):
        return "moorage"
    return script if file == "moorage" else f"{python} -m moorage"

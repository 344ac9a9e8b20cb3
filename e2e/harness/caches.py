"""Where things are kept that take long to make: outside the work tree, so that a fresh clone finds them."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def directory() -> Path:
    """The harness's cache, made if it is not there: `$XDG_CACHE_HOME` or `~/.cache`, then `moorage/e2e`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "moorage" / "e2e"
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: str | bytes) -> str:
    """A short name for what these parts make: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def made(name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` of the cache; where it is missing, `make` fills it.

    Two runs at once make it once: the second waits. `make` gets an empty directory, which gets its name when it is
    complete: one that was interrupted leaves nothing that a later run would take for whole.
    """
    target = directory() / name
    if target.is_dir():
        return target
    with locked(f"{name}.lock"):
        if not target.is_dir():
            for leftover in directory().glob(f"{name}.draft-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            draft = Path(tempfile.mkdtemp(prefix=f"{name}.draft-", dir=directory()))
            try:
                make(draft)
                draft.chmod(0o755)
                draft.rename(target)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
    return target


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Wait until nobody else holds the lock `name` of the cache, and hold it."""
    with open(directory() / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def contents(*paths: Path) -> Sequence[bytes]:
    """What files hold, for `key`."""
    return [path.read_bytes() for path in paths]

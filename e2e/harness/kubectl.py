"""kubectl, as a person would use it against one cluster."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from e2e.harness import builds
from e2e.harness.errors import HarnessError
from e2e.harness.world import execute


class Kubectl:
    """kubectl with one kubeconfig. All methods block. A failure is a HarnessError with what kubectl printed."""

    def __init__(self, kubeconfig: Path, inside: Callable[[], Sequence[str]] = list) -> None:
        """`inside`: words before the command, that run it where the API server can be reached."""
        self.kubeconfig = kubeconfig
        self._inside = inside

    def command(self, *arguments: str) -> list[str]:
        """The whole command line, for callers that start it themselves."""
        return [*self._inside(), str(builds.program("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 120) -> str:
        """Its standard output."""
        return execute(self.command(*arguments), input=input, seconds=seconds)

    def run_kubectl(self, *arguments: str, input: str | None = None, seconds: float = 120, check: bool = True) -> str:
        """As `kubectl`; with `check=False` standard output and error, whether it failed or not."""
        if check:
            return self.kubectl(*arguments, input=input, seconds=seconds)
        shell = ["sh", "-c", '"$@" 2>&1 || true', "sh"]
        return execute([*shell, *self.command(*arguments)], input=input, seconds=seconds)

    def refused(self, *arguments: str, input: str | None = None) -> str:
        """What kubectl said when it failed. Raises HarnessError when it did not."""
        argv = ["sh", "-c", 'if "$@"; then exit 99; else exit 0; fi 2>&1', "sh", *self.command(*arguments)]
        return execute(argv, input=input)

    def get(self, *arguments: str) -> Any:
        """`kubectl get ... -o json`, decoded."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, manifests: str, *arguments: str) -> str:
        """`kubectl apply -f -` of YAML text."""
        return self.kubectl("apply", "-f", "-", *arguments, input=manifests)

    def until_definitions_are_served(self) -> None:
        """Wait for all CustomResourceDefinitions. kubectl fails over one that has no conditions yet."""
        wait = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        self.eventually("the definitions are served", lambda: self.kubectl(*wait), seconds=30)

    def eventually(self, what: str, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until the condition is true; a kubectl that fails counts as false. Raises HarnessError."""
        deadline = time.monotonic() + seconds
        last = ""
        while True:
            try:
                if condition():
                    return
            except (HarnessError, LookupError) as error:
                last = f"; at last: {error!r}"
            if time.monotonic() > deadline:
                raise HarnessError(f"not within {seconds:.0f} s: {what}{last}")
            time.sleep(0.2)

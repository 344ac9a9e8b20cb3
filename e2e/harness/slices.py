"""What the EndpointSlices of a Service held over time, as a watch told of it."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from e2e.harness.kubectl import Kubectl

T = TypeVar("T")


class Slices(Generic[T]):
    """A context manager. Each state has its time, and what was read of each endpoint, by its name or address."""

    def __init__(self, cluster: Kubectl, namespace: str, service: str, read: Callable[[Any], T]) -> None:
        """`read`: what is of interest in an endpoint, in JSON."""
        self.states: list[tuple[float, dict[str, T]]] = []
        self._slices: dict[str, dict[str, T]] = {}
        self._endpoint = read
        label = f"kubernetes.io/service-name={service}"
        arguments = ["-n", namespace, "get", "endpointslices", "-l", label, "-o", "json"]
        self._process = subprocess.Popen(
            cluster.command(*arguments, "--watch", "--output-watch-events"), stdout=subprocess.PIPE, text=True
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        self.until("a first look", bool)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._thread.join(10)
        self._process.wait()

    @property
    def now(self) -> dict[str, T]:
        return self.states[-1][1] if self.states else {}

    def until(
        self, what: str, holds: Callable[[dict[str, T]], object], seconds: float = 60, since: float = 0
    ) -> float:
        """When the first state came for which it holds, of those after `since`; fails the test after `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for at, state in list(self.states):
                if at >= since and holds(state):
                    return at
            time.sleep(0.01)
        raise AssertionError(f"not within {seconds} s: {what}; the slices hold {self.now}")

    def _follow(self) -> None:
        assert self._process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._process.stdout:
            text += line
            try:
                event, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                continue
            text = text[end:].lstrip()
            self._take(event["type"], event["object"])

    def _take(self, kind: str, slice_: Any) -> None:
        name = slice_["metadata"]["name"]
        if kind == "DELETED":
            self._slices.pop(name, None)
        else:
            self._slices[name] = {
                each.get("hostname") or each["addresses"][0]: self._endpoint(each)
                for each in slice_.get("endpoints") or ()
            }
        merged = {name: found for published in self._slices.values() for name, found in published.items()}
        self.states.append((time.monotonic(), merged))

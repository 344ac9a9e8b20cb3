"""Numbers from Prometheus' text format. Pure but `scrape`."""

import math
import re
import ssl
import urllib.request
from collections.abc import Mapping

import msgspec

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Histogram(msgspec.Struct, frozen=True):
    """How many observations were at most so large, by bound, cumulative; one more count is of all."""

    bounds: list[float]
    counts: list[float]

    def quantile(self, share: float) -> float:
        """The least bound that this share of the observations does not exceed: the quantile is not larger."""
        total = self.counts[-1]
        return next(
            (bound for bound, count in zip(self.bounds, self.counts, strict=False) if count >= share * total),
            math.inf,
        )

    def since(self, before: "Histogram") -> "Histogram":
        return Histogram(self.bounds, [now - then for now, then in zip(self.counts, before.counts, strict=True)])


class Scrape:
    """One answer of a `/metrics`."""

    def __init__(self, text: str) -> None:
        self._samples: list[tuple[str, dict[str, str], float]] = [
            (match[1], dict(_LABEL.findall(match[2] or "")), float(match[3]))
            for match in map(_SAMPLE.match, text.splitlines())
            if match
        ]

    def total(self, metric: str, **labels: str) -> float:
        """The sum of a metric's series whose labels match these patterns."""
        return sum(
            value
            for each, have, value in self._samples
            if each == metric and all(re.fullmatch(labels[key], have.get(key, "")) for key in labels)
        )

    def histogram(self, metric: str) -> Histogram:
        buckets: Mapping[float, float] = {
            float(labels["le"]): value for each, labels, value in self._samples if each == f"{metric}_bucket"
        }
        bounds = sorted(buckets)
        return Histogram(bounds[:-1], [buckets[bound] for bound in bounds])


def scrape(url: str, token: str | None = None, ca: str | None = None) -> Scrape:
    """Raises OSError where nobody answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    context = ssl.create_default_context(cadata=ca) if ca else None
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return Scrape(answer.read().decode())

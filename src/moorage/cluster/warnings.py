"""Warnings in answers of the Kubernetes API: headers `Warning: 299 - "text"` (KEP-1693; RFC 7234, 5.5)."""

import re
from collections.abc import Iterable, Iterator

from moorage.cluster.errors import one_line

_HEADER = re.compile(r'299 +\S+ +"((?:[^"\\]|\\.)*)"')


def warnings(headers: Iterable[str]) -> Iterator[str]:
    """The texts of an answer's `Warning` headers, each as one line. Codes other than 299 are left out."""
    for header in headers:
        for text in _HEADER.findall(header):
            yield one_line(re.sub(r"\\(.)", r"\1", text))

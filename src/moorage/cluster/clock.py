"""The wall clock, in Kubernetes' formats. Only for people: no decision compares the clocks of two machines."""

import time
from datetime import UTC, datetime
from functools import lru_cache


def timestamp() -> str:
    """The present time, RFC 3339 in UTC with whole seconds (`metav1.Time`): `2027-01-01T00:00:00Z`."""
    return _written(int(time.time()))


@lru_cache(maxsize=1)
def _written(seconds: int) -> str:
    # Called for every health check, thousands of times a second.
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def micro_timestamp() -> str:
    """The present time, RFC 3339 in UTC with microseconds (`metav1.MicroTime`): `2027-01-01T00:00:00.000000Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

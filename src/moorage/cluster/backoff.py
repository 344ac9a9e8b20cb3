"""How long to wait after failures."""


def backoff(failures: int, jitter: float, *, first: float = 0.2, longest: float = 30.0) -> float:
    """Seconds to wait after this many failures in a row (at least 1). `jitter`, in [0, 1), takes off up to half."""
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * (1 - jitter / 2)

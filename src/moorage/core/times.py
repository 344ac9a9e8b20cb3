"""Times as Kubernetes writes them."""

from datetime import UTC, datetime


def seconds(text: str | None) -> float | None:
    """An RFC 3339 time as seconds since 1970; None: there is none, or it cannot be read."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""Puts ExternalServices into the queue when the outcome of a check matters to them."""

from collections.abc import Callable

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.log import get_logger
from moorage.operator.endpoint_health import Change
from moorage.operator.metrics import Metrics
from moorage.operator.records import Records

log = get_logger("moorage.operator")

FIRST_VERDICTS_SECONDS = 0.05
"""How long the first outcome of an endpoint waits for those of others, so that one write has them all."""
REWORDED_SECONDS = 60.0
"""How long a new reason for the same verdict waits: most reasons change again before that."""


class Outcomes:
    """Takes the outcomes of checks. `again(key, seconds)` queues an ExternalService that an outcome concerns."""

    def __init__(
        self, records: Records, again: Callable[[ObjectKey, float], None], metrics: Metrics, now: Callable[[], str]
    ) -> None:
        self._records = records
        self._again = again
        self._metrics = metrics
        self._now = now

    def take(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        """Take the outcome of one check of this endpoint."""
        self._metrics.count_probe(outcome.success, outcome.seconds)
        record = self._records.get(key)
        if record is None:
            return
        try:
            change = record.health.observe(name, outcome, self._now())
        except Exception:
            log.exception("the outcome of a check is lost because of a bug in Moorage", key=key, endpoint=name)
            return
        match change:
            case Change("Verdict", before, after):
                level = (
                    log.warning
                    if after.health == "Unhealthy"
                    else log.info
                    if before.health == "Unhealthy"
                    else log.debug
                )
                level("an endpoint turned", object=str(key), endpoint=name, health=after.health, why=after.message)
                self._metrics.verdicts.labels(after.health).inc()
                self._again(key, FIRST_VERDICTS_SECONDS if before.health == "Unknown" else 0.0)
            case Change("Turned"):
                self._again(key, 0.0)
            case Change("Checked"):
                self._again(key, FIRST_VERDICTS_SECONDS)
            case Change("Reworded"):
                self._again(key, REWORDED_SECONDS)

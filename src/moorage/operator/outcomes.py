"""From the outcome of a check to the queue."""

from collections.abc import Callable

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.log import get_logger
from moorage.operator.endpoint_health import Change
from moorage.operator.metrics import Metrics
from moorage.operator.records import Records

log = get_logger("moorage.operator")

FIRST_VERDICTS_SECONDS = 0.05
"""How long the first verdict of an endpoint waits for those of others, so that one write has them."""
REWORDED_SECONDS = 60.0
"""How long another reason for the same verdict waits: most change again before that."""


class Outcomes:
    """Takes the outcomes of checks. `again(key, seconds)` puts an ExternalService into the queue that one touches."""

    def __init__(
        self, records: Records, again: Callable[[ObjectKey, float], None], metrics: Metrics, now: Callable[[], str]
    ) -> None:
        self._records = records
        self._again = again
        self._metrics = metrics
        self._now = now

    def take(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        """One check of the endpoint of this name has ended."""
        self._metrics.count_probe(outcome.success, outcome.seconds)
        record = self._records.get(key)
        if record is None:
            return
        try:
            change = record.health.observe(name, outcome, self._now())
        except Exception:
            log.exception("a check counts for nothing because of a mistake in Moorage", key=key, endpoint=name)
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
            case Change("Reworded"):
                self._again(key, REWORDED_SECONDS)

"""A short churn run: much fails and changes at once while pods connect, and every promise is kept."""

from pathlib import Path

from e2e.churn import history
from e2e.churn.checker import judge, report
from e2e.churn.run import run
from e2e.churn.scene import SERVICES
from e2e.harness.moored import NODES
from e2e.harness.played import PlayedClusters
from e2e.harness.world import LOGS

SEED, SECONDS = 1, 75.0
FEWEST = {
    "connections": 3000,
    **{f"connections to {service}": 500 for service in SERVICES},
    "connections that were broken": 10,
    **{f"moves: {reason}": 1 for reason in ("Assigned", "Drained", "FailedOver", "Moved", "Returned")},
    "downs: agent": 3,
    "downs: api": 1,
    "downs: endpoint": 3,
    "downs: operator": 2,
    "looks into kernels": len(NODES),
}
"""What there has to be to look at: nobody complains about an empty history."""
HISTORY = LOGS / "churn.jsonl"
"""To be judged again: `python -m e2e.churn --judge build/e2e/churn.jsonl`."""


def test_no_promise_is_broken_while_everything_fails_and_changes(played: PlayedClusters, tmp_path: Path) -> None:
    print(f"the same by hand: python -m e2e.churn --seed {SEED} --seconds {SECONDS:g}")
    records = run(played, tmp_path / "churn", SEED, SECONDS)
    HISTORY.parent.mkdir(parents=True, exist_ok=True)
    history.write(HISTORY, records)
    judgement = judge(records)
    print(report(judgement))
    assert not judgement.violations, report(judgement)
    assert {what: judgement.looked_at[what] for what in FEWEST if judgement.looked_at[what] < FEWEST[what]} == {}

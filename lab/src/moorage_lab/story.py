"""The demo: a story of sticky connections between two clusters, printed while it happens, with every step checked."""

from moorage_lab import by_hand, external
from moorage_lab.answers import deployment_of
from moorage_lab.narrator import Narrator
from moorage_lab.outside import Lab
from moorage_lab.picture import DOWN, UP, Outage
from moorage_lab.stage import Stage

CLUSTERS = {"a": 1, "b": 2}
BY_HAND, EXTERNAL = "by hand", "ExternalService"


async def tell(lab: Lab, narrator: Narrator, patience: float) -> str | None:
    """Tell the whole story, in a lab with the clusters `CLUSTERS`, which stays as it is at the end.

    Every wait and every bound is `patience` seconds longer.

    Returns the backend Deployment that has no pods at the end; None if the story did not get that far. Raises
    MoorageError if it cannot go on.
    """
    async with lab.client("a") as a, lab.client("b") as b:
        stage = Stage(lab, narrator, a, b, patience)
        narrator.act("By hand: a Service, and addresses that somebody copied")
        first = await by_hand.Act(stage).tell()
        second: external.Outcome | None = None
        if first is not None:
            narrator.act("Found, checked and kept: an ExternalService")
            second = await external.Act(stage, first.frontend).tell(deployment_of(first.gone))
            if second and second.outage:
                _compare(narrator, first.outage, second.outage)
        narrator.end()
        if second is not None:
            return second.without_pods
        return deployment_of(first.gone) if first else None


def _compare(narrator: Narrator, by_hand: Outage, external: Outage) -> None:
    """Compare what the same failure meant each time."""
    narrator.act("The pinned backend went away, twice")
    narrator.output(f"{DOWN} requests fail   {UP} requests are answered")
    narrator.picture({BY_HAND: by_hand, EXTERNAL: external})
    label = len(EXTERNAL) + 3
    narrator.told(
        BY_HAND,
        f"all {by_hand.failed} requests failed until a person took the address out: here after "
        f"{by_hand.seconds:.1f} s, because somebody was waiting for it",
        label,
    )
    narrator.told(
        EXTERNAL,
        f"{external.failed} requests failed in {external.seconds:.1f} s, then the other backend answered: nobody did "
        "anything"
        if external.failed
        else "no request failed, and nobody did anything",
        label,
    )

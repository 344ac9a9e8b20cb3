"""The demo: a story of sticky connections between two clusters, printed while it happens, with every step checked."""

from moorage_lab import by_hand, external, moored
from moorage_lab.answers import deployment_of
from moorage_lab.narrator import Narrator
from moorage_lab.outside import Lab
from moorage_lab.picture import DOWN, UP, Outage
from moorage_lab.stage import Stage

CLUSTERS = {"a": 1, "b": moored.NODES}
BY_HAND, EXTERNAL, MOORING = "by hand", "ExternalService", "Mooring"


async def tell(lab: Lab, narrator: Narrator, patience: float) -> str | None:
    """Tell the whole story, in a lab with the clusters `CLUSTERS`, which stays as it is at the end.

    Every wait and every bound is `patience` seconds longer.

    Returns the backend Deployment that has no pods at the end; None if the story did not get that far. Raises
    MoorageError if it cannot go on.
    """
    async with lab.client("a") as a, lab.client("b") as b:
        stage = Stage(lab, narrator, a, b, patience)
        without_pods = await _acts(stage)
        narrator.end()
        return without_pods


async def _acts(stage: Stage) -> str | None:
    narrator = stage.narrator
    narrator.act("By hand: a Service, and addresses that somebody copied")
    first = await by_hand.Act(stage).tell()
    if first is None:
        return None
    narrator.act("Found, checked and kept: an ExternalService")
    second = await external.Act(stage, first.frontend).tell(deployment_of(first.gone))
    if second is None:
        return deployment_of(first.gone)
    narrator.act("Each client keeps its backend: Moorings")
    third = await moored.Act(stage, first.frontend).tell(second.without_pods)
    if third is None:
        return second.without_pods
    if second.outage and third.outage:
        _compare(narrator, {BY_HAND: first.outage, EXTERNAL: second.outage, MOORING: third.outage})
    _recreated(narrator, third)
    return third.without_pods


def _compare(narrator: Narrator, outages: dict[str, Outage]) -> None:
    """Compare what the same failure meant each time."""
    narrator.act("A backend with clients went away, three times")
    narrator.output(f"{DOWN} requests fail   {UP} requests are answered")
    narrator.picture(outages)
    label = len(EXTERNAL) + 3
    by_hand, external, mooring = (outages[name] for name in (BY_HAND, EXTERNAL, MOORING))
    narrator.told(
        BY_HAND,
        f"all {by_hand.failed} requests failed until a person took the address out: here after "
        f"{by_hand.seconds:.1f} s, because somebody was waiting for it",
        label,
    )
    narrator.told(EXTERNAL, _failed(external, "then the other backend answered: nobody did anything"), label)
    narrator.told(MOORING, _failed(mooring, "then others answered its clients: these moved, and nobody else"), label)


def _failed(outage: Outage, then: str) -> str:
    if not outage.failed:
        return "no request failed, and nobody did anything"
    return f"{outage.failed} requests failed in {outage.seconds:.1f} s, {then}"


def _recreated(narrator: Narrator, seen: moored.Outcome) -> None:
    """Say what became of pods that were re-created."""
    narrator.act("A pod is re-created, and has another address")
    label = len("no affinity") + 3
    narrator.told("no affinity", "each of its connections goes to any backend", label)
    narrator.told("ClientIP", f"it may reach another backend: {_of(seen.by_client_ip)} did", label)
    kept = seen.by_mooring._replace(elsewhere=seen.by_mooring.of - seen.by_mooring.elsewhere)
    narrator.told(MOORING, f"it reaches the same backend: {_of(kept)} did", label)


def _of(seen: moored.Recreated) -> str:
    return f"{seen.elsewhere} of {seen.of}"

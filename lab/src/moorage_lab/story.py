"""The demo: the story of sticky connections between two clusters, told while it happens, every step checked."""

from moorage_lab import by_hand, external
from moorage_lab.answers import deployment_of
from moorage_lab.narrator import Narrator
from moorage_lab.outside import Lab
from moorage_lab.stage import Stage

CLUSTERS = {"a": 1, "b": 2}


async def tell(lab: Lab, narrator: Narrator, patience: float) -> str | None:
    """The whole story, in a lab of the clusters `CLUSTERS`, which is left as the story ends.

    What is waited for, or held to a bound, may take `patience` seconds longer.

    Returns the backend Deployment that has no pods then, None if the story did not come so far. Raises MoorageError
    where it cannot go on.
    """
    async with lab.client("a") as a, lab.client("b") as b:
        stage = Stage(lab, narrator, a, b, patience)
        narrator.act("By hand: a Service, and addresses that somebody copied")
        first = await by_hand.Act(stage).tell()
        left: str | None = None
        if first is not None:
            narrator.act("Found, checked and kept: an ExternalService")
            left = await external.Act(stage, first.frontend).tell(deployment_of(first.gone))
        narrator.end()
        return left or (deployment_of(first.gone) if first else None)

"""What makes the pods of a node, as far as it tells which client they are."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from moorage.api.apps_v1 import ReplicaSet
from moorage.api.batch_v1 import Job
from moorage.api.core_v1 import Pod
from moorage.api.meta import OwnerReference
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.cluster.queue import Queue
from moorage.core.clients import MADE_BETWEEN, Owners, controller_of

MAX_KNOWN = 4_096
"""Of how many ReplicaSets and Jobs it is remembered what made them; a node has about a hundred pods."""
MAX_QUESTIONS = 4
"""How many are asked for at a time."""


class _Question(NamedTuple):
    namespace: str
    kind: str
    name: str
    uid: str


class Controllers:
    """What made the ReplicaSets and Jobs of pods: the API server is asked once for each.

    That never changes for a uid, but where somebody orphans a ReplicaSet by hand. `known(namespace)` is called when
    an answer has come.
    """

    def __init__(self, client: Client, known: Callable[[str], None]) -> None:
        self._client, self._known = client, known
        self._questions: Queue[_Question] = Queue()
        self._answers: dict[str, OwnerReference | None] = {}
        """By uid."""
        self._gone: set[str] = set()
        """Uids of those that there are not."""

    async def run(self) -> None:
        """Ask until cancelled."""
        await self._questions.run(self._ask, workers=MAX_QUESTIONS)

    def owners(self, pods: Iterable[Pod]) -> Owners:
        """What is known about the ReplicaSets and Jobs of `pods`; what is not is asked for."""
        found: dict[tuple[str, str], OwnerReference | None] = {}
        for pod in pods:
            made_by = controller_of(pod.metadata)
            if made_by is None or made_by.api_version != MADE_BETWEEN.get(made_by.kind):
                continue
            if made_by.uid in self._answers:
                found[made_by.kind, made_by.name] = self._answers[made_by.uid]
            elif made_by.uid not in self._gone:
                namespace = pod.metadata.namespace or ""
                self._questions.add(_Question(namespace, made_by.kind, made_by.name, made_by.uid))
        return Owners(found)

    async def _ask(self, question: _Question) -> None:
        kind = ReplicaSet if question.kind == "ReplicaSet" else Job
        try:
            made = (await self._client.get(kind, question.namespace, question.name)).metadata
        except ApiError as error:
            if error.status != 404:
                raise
            made = None
        if made is None or made.uid != question.uid:
            if len(self._gone) >= MAX_KNOWN:
                self._gone.clear()
            self._gone.add(question.uid)
            return
        if len(self._answers) >= MAX_KNOWN:
            del self._answers[next(iter(self._answers))]
        self._answers[question.uid] = controller_of(made)
        self._known(question.namespace)

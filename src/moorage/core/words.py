"""How facts become the words of conditions, of the status and of Events."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from moorage.api.discovery_v1 import MANAGED_BY_LABEL, EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.endpoints import MAX_NAMES, listed

MIRRORING = "endpointslicemirroring-controller.k8s.io"


class ConditionValue(NamedTuple):
    """A condition without its times."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def several(sentences: Iterable[str]) -> str:
    """Sentences, in one line."""
    return ". ".join(each.rstrip(".") for each in sentences)


def counted(count: int, what: str) -> str:
    """`1 endpoint`, `2 endpoints`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def client_noun(kind: str) -> str:
    """What a client of this kind is called: `node`, `label value`. The plural has an s."""
    return "label value" if kind == "Label" else kind.lower()


def cut(text: str, characters: int) -> str:
    """`text`, shortened to this many characters if need be."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def foreign_slices(xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> str:
    """That others have written slices of our Service."""
    return (
        f"Connections also go to endpoints that others have given Service {xsvc.metadata.key}, in EndpointSlice "
        f"{listed([each.metadata.name for each in slices])}; if that is not intended: {without(xsvc, slices)}"
    )


def without(xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> str:
    """The command that ends slices of our Service that others wrote."""
    namespace, name = xsvc.metadata.namespace, xsvc.metadata.name
    found = [each.metadata.name for each in slices]
    managers = {(each.metadata.labels or {}).get(MANAGED_BY_LABEL) for each in slices}
    if managers == {MIRRORING}:
        return f"kubectl delete endpoints -n {namespace} {name}, which they are copied from"
    return f"kubectl delete endpointslice -n {namespace} {' '.join(found[:MAX_NAMES])}"

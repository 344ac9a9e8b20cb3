"""ExternalServices whose nodes are clients, on an operator that is played."""

from typing import Any

from testing.eventually import eventually
from tests.support.operators import Operator, xsvc

ONE, TWO, THREE = "one=203.0.113.1", "two=203.0.113.2", "three=203.0.113.3"
ENDS = {"one": 81, "two": 82, "three": 83}
"""Name and port of endpoints. As each has a port of its own, each is in a slice of its own."""
NODES = ["n1", "n2", "n3"]
LABELS = {"app": "a"}
SELECTOR = {"podSelector": {"matchLabels": LABELS}}
_POD: dict[str, Any] = {"containers": [{"name": "main", "image": "a"}]}


def address_of(name: str) -> str:
    """Of one of ENDS."""
    return f"203.0.113.{ENDS[name]}"


def apart(*names: str) -> list[dict[str, Any]]:
    """The sources of a spec that has these of ENDS; without names, all."""
    return [
        {"addresses": [{"name": each, "address": address_of(each), "port": ENDS[each]} for each in names or ENDS]}
    ]


def moored(*addresses: str, name: str = "backend", client: str = "Node", **spec: Any) -> dict[str, Any]:
    mooring = {"client": client, **spec.pop("mooring", {})}
    config = {"sessionAffinity": "Mooring", "sessionAffinityConfig": {"mooring": mooring}}
    return xsvc(name, *addresses, **config, **spec)


async def begun(op: Operator, *addresses: str, nodes: list[str] = NODES, **spec: Any) -> dict[str, str]:
    """An ExternalService whose clients are these nodes; where they are."""
    for each in nodes:
        await op.node(each)
    await op.apply(moored(*addresses, **spec))

    async def all_moored() -> bool:
        return sorted(await op.moorings()) == sorted(nodes)

    await eventually(all_moored)
    await op.rests()
    return await op.moorings()


async def made(op: Operator, kind: str, name: str, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make a Pod, or what makes pods, with `LABELS`. Returns how those that it makes refer to it."""
    version, spec = "v1", _POD
    if kind != "Pod":
        version = "apps/v1"
        spec = {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": _POD}}
    meta = {"name": name, "namespace": "default", "labels": LABELS, "ownerReferences": [owner] if owner else []}
    obj = {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
    uid = (await op.client.apply(obj, field_manager="test"))["metadata"]["uid"]
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}

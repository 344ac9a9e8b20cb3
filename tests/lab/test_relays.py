"""Which relays there are, as Services come, change and go."""

import socket

from moorage.api.core_v1 import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from moorage.api.meta import ObjectMeta
from moorage_lab.channel import Relay
from moorage_lab.relays import Entrance, RelayKeeper, entrances


def service(name: str, *ports: ServicePort, address: str | None, type: str = "LoadBalancer") -> Service:
    ingress = [LoadBalancerIngress(ip=address)] if address else None
    return Service(
        metadata=ObjectMeta(name=name, namespace="shop"),
        spec=ServiceSpec(type=type, ports=list(ports)),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress)),
    )


def test_every_tcp_port_of_a_load_balancer_with_an_address_is_an_entrance() -> None:
    ports = (ServicePort(port=80), ServicePort(port=443), ServicePort(port=53, protocol="UDP"))
    services = [
        service("web", *ports, address="203.0.113.1"),
        service("waiting", *ports, address=None),
        service("inner", *ports, address="203.0.113.2", type="ClusterIP"),
    ]
    assert entrances("a", services) == {
        Entrance("a", "shop", "web", 80): "203.0.113.1",
        Entrance("a", "shop", "web", 443): "203.0.113.1",
    }


class Machine:
    """Gives listening sockets, and remembers which ports were asked for and what was published."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.published: list[list[Relay]] = []
        self.keeper = RelayKeeper(["a", "b"], self.listen, self.published.append)

    async def listen(self, prefer: int) -> tuple[socket.socket, int]:
        self.asked.append(prefer)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        return listener, listener.getsockname()[1]


async def test_relays_follow_the_services() -> None:
    machine = Machine()
    web = Entrance("b", "shop", "web", 80)
    await machine.keeper.set("b", {web: "203.0.113.65"})
    [[relay]] = machine.published
    assert (relay.service, relay.address, relay.service_port) == ("web", "203.0.113.65", 80)
    await machine.keeper.set("b", {web: "203.0.113.65"})
    await machine.keeper.set("a", {})
    assert len(machine.published) == 1, "nothing changed"

    await machine.keeper.set("b", {web: "203.0.113.66"})
    [moved] = machine.published[-1]
    assert moved.address == "203.0.113.66"
    await machine.keeper.set("b", {})
    assert machine.published[-1] == []


async def test_a_service_that_is_made_again_asks_for_the_port_that_it_had() -> None:
    machine = Machine()
    web = Entrance("b", "shop", "web", 80)
    await machine.keeper.set("b", {web: "203.0.113.65"})
    port = machine.published[-1][0].port
    await machine.keeper.set("b", {})
    await machine.keeper.set("b", {web: "203.0.113.65"})
    assert machine.asked == [8090, port]
    await machine.keeper.set("b", {})

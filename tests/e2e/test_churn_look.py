"""What is read of a node's kernel."""

from e2e.churn.history import Kernel
from e2e.churn.look import look
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.ruleset import foundation

SERVICES = {ServiceAddress("10.96.0.1", "tcp", 9000): "one", ServiceAddress("10.96.0.2", "tcp", 9000): "two"}
ENDPOINTS = {"192.0.2.1": "e1", "192.0.2.2": "e2"}


async def test_it_has_moorings_and_the_endpoints_of_slots_by_service() -> None:
    nft = FakeNft(lambda: 0.0)
    await nft.run("\n".join(foundation()))
    await nft.run(
        "add element inet moorage moorings4 { 10.244.1.2 . 10.96.0.1 . tcp . 9000 : 192.0.2.2 . 8080 }\n"
        "add element inet moorage moorings4 { 10.244.1.2 . 10.96.0.9 . tcp . 9000 : 192.0.2.2 . 8080 }\n"
        "add element inet moorage slots-tcp4 { 10.96.0.1 . 9000 . 0 : 192.0.2.1 . 8080 }\n"
        "add element inet moorage slots-tcp4 { 10.96.0.1 . 9000 . 1 : 192.0.2.2 . 8080 }\n"
        "add element inet moorage slots-tcp4 { 10.96.0.1 . 9000 . 2 : 192.0.2.1 . 8080 }\n"
        "add element inet moorage slots-tcp4 { 10.96.0.2 . 9000 . 0 : 192.0.2.3 . 8080 }\n"
        "add element inet moorage slots-tcp4 { 10.96.0.9 . 9000 . 0 : 192.0.2.1 . 8080 }\n"
    )
    nft.count("misses")
    assert await look(1.0, "n1", nft, SERVICES, ENDPOINTS) == Kernel(
        at=1.0,
        node="n1",
        misses=1,
        moorings={"one": {"10.244.1.2": "e2"}, "two": {}},
        ready={"one": ["e1", "e2"], "two": ["192.0.2.3"]},
    )


async def test_where_there_is_no_table_nobody_is_led() -> None:
    nothing = Kernel(at=1.0, node="n1", misses=0, moorings={"one": {}, "two": {}}, ready={})
    assert await look(1.0, "n1", FakeNft(lambda: 0.0), SERVICES, ENDPOINTS) == nothing

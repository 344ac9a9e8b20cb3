"""The name server as the lab starts it, asked by the product's resolver."""

import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from moorage.discovery.resolver import LookupFailedError, Resolver, Server
from moorage_lab import nameserver
from moorage_lab.zone import Zone
from testing.beside import beside
from testing.eventually import eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "names.zone"


@pytest.fixture
async def names(file: Path) -> AsyncIterator[Resolver]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with beside(nameserver.serve(["127.0.0.1"], file, port)):
        yield Resolver(name_servers=(("127.0.0.1", port),))


def write(file: Path, zone: Zone | str) -> None:
    new = file.with_suffix(".new")
    new.write_text(str(zone))
    new.replace(file)


def remove(file: Path) -> None:
    file.unlink()


async def listens(names: Resolver) -> bool:
    with suppress(LookupFailedError):
        await names.addresses("db.example.com", "A")
        return True
    return False


async def test_changes_are_answered_at_once_and_for_a_second(names: Resolver, file: Path) -> None:
    zone = Zone().with_records("db.example.com", ["203.0.113.1"])
    write(file, zone)
    await eventually(lambda: listens(names))
    write(file, zone.with_records("db.example.com", ["203.0.113.2", "203.0.113.3"]))
    found = await names.addresses("db.example.com", "A")
    assert (found.addresses, found.ttl) == (("203.0.113.2", "203.0.113.3"), 1.0)
    remove(file)
    assert await names.addresses("db.example.com", "A") == ((), 1.0)


async def test_many_addresses_come_over_tcp(names: Resolver, file: Path) -> None:
    many = [f"203.0.113.{number}" for number in range(1, 200)]
    write(file, Zone().with_records("db.example.com", many))
    await eventually(lambda: listens(names))
    assert set((await names.addresses("db.example.com", "A")).addresses) == set(many)


async def test_a_file_that_cannot_be_read_leaves_the_names_as_they_were(names: Resolver, file: Path) -> None:
    write(file, Zone().with_records("_db._tcp.example.com", ["0 1 5432 db.example.com"]))
    await eventually(lambda: listens(names))
    before = await names.servers("_db._tcp.example.com")
    write(file, "nonsense")
    assert await names.servers("_db._tcp.example.com") == before
    assert before.servers == (Server(0, 1, 5432, "db.example.com"),)

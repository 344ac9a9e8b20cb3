"""Objects that a measurement needs are made, though the server may be too busy for a while."""

import pytest

from bench import running
from moorage.cluster.errors import ApiError, UnreachableError

BUSY = ApiError(422, "Invalid", "failed to allocate IP 10.96.22.20: etcdserver: request timed out")
THERE = ApiError(409, "AlreadyExists", 'services "one" already exists')


class Server:
    """Answers one request after the other with what it is given."""

    def __init__(self, *answers: Exception | None) -> None:
        self.left = list(answers)

    async def request(self) -> None:
        answer = self.left.pop(0)
        if answer:
            raise answer


@pytest.mark.parametrize("answers", [[None], [BUSY, None], [UnreachableError("no answer"), THERE]])
async def test_a_server_that_is_busy_is_asked_until_the_object_is_there(
    monkeypatch: pytest.MonkeyPatch, answers: list[Exception | None]
) -> None:
    monkeypatch.setattr(running, "AGAIN_SECONDS", 0)
    server = Server(*answers)
    await running.until_there(server.request)
    assert server.left == []


@pytest.mark.parametrize("answers", [[THERE], [BUSY] * running.MAX_ATTEMPTS])
async def test_what_was_there_before_and_what_fails_again_and_again_are_errors(
    monkeypatch: pytest.MonkeyPatch, answers: list[Exception | None]
) -> None:
    monkeypatch.setattr(running, "AGAIN_SECONDS", 0)
    server = Server(*answers)
    with pytest.raises(ApiError):
        await running.until_there(server.request)
    assert server.left == []

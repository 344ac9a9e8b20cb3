import itertools
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.core_v1 import Service
from moorage.cluster.errors import AnswerError, ApiError
from moorage.cluster.events import Bookmark, Event, lines, read_event

DECODER = msgspec.json.Decoder(Service)


async def split(*chunks: bytes, longest: int = 100) -> list[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for line in lines(stream(), longest)]


@given(st.lists(st.binary(min_size=1, max_size=6)), st.lists(st.integers(0, 60)))
async def test_lines_are_the_same_wherever_the_stream_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"\n".join(parts)
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in itertools.pairwise(at)]
    assert await split(*chunks) == [line for line in stream.split(b"\n")[:-1] if line.strip()]


async def test_a_line_without_end_is_dropped() -> None:
    assert await split(b"a\nb") == [b"a"]


async def test_a_line_that_never_ends_is_refused() -> None:
    with pytest.raises(AnswerError, match="more than 10 bytes"):
        await split(*[b"abcd"] * 5, longest=10)


def test_an_event_holds_the_typed_object() -> None:
    line = b'{"type": "DELETED", "object": {"metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.7"}}}'
    match read_event(line, DECODER.decode):
        case Event("DELETED", obj):
            assert (obj.metadata.name, obj.spec.cluster_ip) == ("a", "10.96.0.7")
        case other:
            pytest.fail(f"got {other}")


def test_a_bookmark_needs_nothing_but_its_version() -> None:
    line = b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}, "spec": {"ports": "?"}}}'
    assert read_event(line, DECODER.decode) == Bookmark("7")


def test_an_error_event_is_raised_as_what_it_says() -> None:
    line = b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}}'
    with pytest.raises(ApiError) as caught:
        read_event(line, DECODER.decode)
    assert (caught.value.status, caught.value.reason, caught.value.message) == (410, "Expired", "old")

import os
import socket

from moorage_lab import topology
from moorage_lab.channel import Channel, Failed, Listening, Start, Stop


def pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


async def test_messages_arrive_whole_and_in_order() -> None:
    one, other = pair()
    start = Start(plan=topology.plan(dict.fromkeys("abcd", 16)), directory="/x")
    async with one, other:
        one.send(start)
        one.send(Stop())
        assert await other.receive() == (start, None)
        assert await other.receive() == (Stop(), None)


async def test_a_file_descriptor_arrives_beside_its_message() -> None:
    one, other = pair()
    async with one, other:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            one.send(Listening(number=1, port=port), listener.fileno())
        received = await other.receive()
        assert received is not None
        message, descriptor = received
        assert message == Listening(number=1, port=port)
        assert descriptor is not None
        with socket.socket(fileno=descriptor) as taken:
            assert taken.getsockname()[1] == port
            assert not os.get_inheritable(descriptor)


async def test_the_end_of_one_end_is_the_end_for_the_other_after_what_was_sent() -> None:
    one, other = pair()
    one.send(Failed(message="why"))
    one.close()
    async with other:
        assert await other.receive() == (Failed(message="why"), None)
        assert await other.receive() is None
        other.send(Stop())
        assert await other.receive() is None

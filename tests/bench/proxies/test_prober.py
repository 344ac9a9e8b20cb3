"""The client of the benchmark sees which endpoint answers, and when another does."""

import socket
import threading
from collections.abc import Iterator

import pytest

from bench.proxies.prober import Answer, Question, ask


@pytest.fixture
def endpoints() -> Iterator[tuple[int, list[str]]]:
    """A port, and the names that answer there, one after the other; the last one for ever."""
    names: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    name = names.pop(0) if len(names) > 1 else names[0]
                    if not name:
                        return
                    connection.send(name.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        port: int = listener.getsockname()[1]
        yield port, names
        names[:] = [""]
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


def test_it_asks_until_another_endpoint_answers(endpoints: tuple[int, list[str]]) -> None:
    port, names = endpoints
    names += ["198.18.0.1", "198.18.0.1", "198.18.0.2"]
    question = Question("127.0.0.1", "127.0.0.1", port)
    assert ask(question).endpoint == "198.18.0.1"
    question.other_than = "198.18.0.1"
    answer = ask(question)
    assert answer.endpoint == "198.18.0.2"
    assert answer.at > 0


def test_without_an_answer_in_time_it_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = ask(Question("127.0.0.1", "127.0.0.1", taken.getsockname()[1], seconds=0))
    assert found == Answer("", found.at)

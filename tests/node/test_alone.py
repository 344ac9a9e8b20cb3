"""One agent on a node: on the kernel, with processes that are killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.netns import Namespace, namespace

HOLDER = """
import sys
from moorage.node.alone import alone
with alone():
    print("alone", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(where: Namespace) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process in that network namespace that wants to be alone, and the first line that it prints."""
    argv = [*where.prefix, sys.executable, "-c", HOLDER]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        first = lines.readline()
        try:
            yield process, first if first == "alone\n" else lines.read().splitlines()[-1]
        finally:
            process.kill()


def test_it_is_one_of_a_network_namespace_and_the_next_comes_in_when_it_is_killed() -> None:
    with namespace() as one, namespace() as another, holder(one) as (first, said):
        assert said == "alone\n"
        with holder(one) as (_, refused):
            assert "a node agent runs here already" in refused
        with holder(another) as (_, elsewhere):
            assert elsewhere == "alone\n"
        first.kill()
        first.wait()
        with holder(one) as (_, after):
            assert after == "alone\n"

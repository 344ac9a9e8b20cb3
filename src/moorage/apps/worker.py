"""The demo's worker: keeps one connection to the backend open, asks over it again and again, and says what becomes of
it."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping

from yarl import URL

from moorage.apps.frontend import UnavailableError, backend_url, reason

INTERVAL_SECONDS = 0.05
"""Between an answer and the next request, and before it connects again."""
TIMEOUT_SECONDS = 5.0
"""For connecting with the resolution of the name, and for each answer."""
MAX_ANSWER_BYTES = 1 << 16
"""Of its body; its head may be as long, which is asyncio's limit."""


async def answers(url: URL) -> AsyncIterator[str]:
    """The lines that the backend answers over one new connection, until that ends.

    Raises UnavailableError, which says why there is no connection, or no longer.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(url.host, url.port)
        while True:
            writer.write(f"GET / HTTP/1.1\r\nHost: {url.authority}\r\n\r\n".encode())
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await _answer(reader)
            yield answer
            await asyncio.sleep(INTERVAL_SECONDS)
    except socket.gaierror as error:
        raise UnavailableError(f"{url.host} has no address: {error.strerror}") from None
    except TimeoutError:
        raise UnavailableError("no answer in time") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        raise UnavailableError("closed by the other side, or not HTTP") from None
    except OSError as error:
        raise UnavailableError(reason(error)) from None
    finally:
        if writer is not None:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> str:
    """The body of the next answer, without its newline. Raises ValueError for what is none."""
    status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    values = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    length = int(values.get("content-length", ""))
    if status.split(" ")[1:2] != ["200"] or not 0 <= length <= MAX_ANSWER_BYTES:
        raise ValueError(status)
    return (await reader.readexactly(length)).decode(errors="replace").strip()


async def work(name: str, url: URL, say: Callable[[str], None]) -> None:
    """Connect again and again, until cancelled. Says who answers, and why a connection has ended or there is none."""
    said = ""
    while True:
        count, last = 0, ""
        try:
            async for answer in answers(url):
                count += 1
                if answer != last:
                    say(f"worker[{name}] -> {answer}")
                last, said = answer, ""
        except UnavailableError as error:
            text = f"lost its connection after {count} answers: {error}" if count else f"cannot connect: {error}"
            if text != said:
                say(f"worker[{name}] {text}")
            said = text
        await asyncio.sleep(INTERVAL_SECONDS)


async def run(environment: Mapping[str, str]) -> None:
    """Work until SIGTERM or SIGINT, and print what is said. Raises SettingError."""
    url = backend_url(environment)
    working = asyncio.create_task(work(socket.gethostname(), url, lambda text: print(text, flush=True)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working

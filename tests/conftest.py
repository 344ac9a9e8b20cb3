"""Settings that all tests share."""

import gc
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from testing.purity import is_pure, is_pure_test
from tests.support.other_nft import other_nft

__all__ = ["other_nft"]

# What programs print, and whom they ask, does not depend on the terminal and the network of who runs the tests.
for variable in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(variable, None)
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"

# How long an example takes says more about the machine than about the code.
settings.register_profile("moorage", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=30)

MAX_NAME_CHARACTERS = 100


def log_plainly() -> None:
    """As structlog does by itself, but a traceback has no local variables: an operator's take seconds to print."""
    structlog.reset_defaults()
    *others, _ = structlog.get_config()["processors"]
    console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, console])


log_plainly()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pure",
        action="store_true",
        help="only tests that do no I/O, by what is imported for them; properties with fewer examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if config.getoption("pure") else "moorage")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Half as many again as there are cores: in tests of labs and of processes almost half of the time is waiting."""
    return None if config.getoption("pure") else math.ceil(1.5 * len(os.sched_getaffinity(0)))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long text names no case: where it has a key that was just made, each process would name it otherwise."""
    return argname if isinstance(val, str | bytes) and len(val) > MAX_NAME_CHARACTERS else None


def pytest_collection_finish() -> None:
    """What was collected stays to the end: looking for garbage in it takes a twentieth of the time."""
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """True: not collected. None: for others to say."""
    left_out = config.getoption("pure") and collection_path.suffix == ".py" and not is_pure(collection_path)
    return left_out or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --pure, of what was collected some tests are left out because of their fixtures."""
    if config.getoption("pure"):
        config.hook.pytest_deselected(items=[each for each in items if not is_pure_test(each)])
        items[:] = filter(is_pure_test, items)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Takes back how a test set up logging, as a command that runs in this process does: its level would stay."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    log_plainly()

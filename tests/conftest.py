"""Settings that all tests share."""

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.support.other_nft import other_nft

__all__ = ["other_nft"]

# What programs print, and whom they ask, does not depend on the terminal and the network of who runs the tests.
for variable in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(variable, None)
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"

# How long an example takes says more about the machine than about the code.
settings.register_profile("moorage", deadline=None)
settings.load_profile("moorage")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Takes back how a test set up logging, as a command that runs in this process does: its level would stay."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()

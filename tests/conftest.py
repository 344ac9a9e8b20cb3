"""Settings that all tests share."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.support.other_nft import other_nft

__all__ = ["other_nft"]

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

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is freed by the garbage collector."""
    gc.disable()
    yield
    gc.enable()

from collections.abc import AsyncIterator

import pytest

from tests.support.operators import Operator, operator


@pytest.fixture
async def op() -> AsyncIterator[Operator]:
    async with operator() as made:
        yield made

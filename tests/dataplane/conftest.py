from collections.abc import Iterator

import pytest

from moorage.dataplane.fake import FakeNft
from moorage.dataplane.nft import Nft
from tests.support.netns import namespace, netns

__all__ = ["netns"]


@pytest.fixture(params=["fake", "kernel"])
def either(request: pytest.FixtureRequest) -> Iterator[Nft]:
    """An empty one: the fake, and the kernel's in a network namespace of its own."""
    if request.param == "fake":
        yield FakeNft(lambda: 0.0)
        return
    with namespace() as made:
        yield made.nft

"""Settings that all tests share."""

from hypothesis import settings

from tests.support.other_nft import other_nft

__all__ = ["other_nft"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("moorage", deadline=None)
settings.load_profile("moorage")

"""Another nft for the tests: `MOORAGE_TEST_NFT="chroot DIR nft"` has those words run in place of `nft`.

A program of that name comes first in PATH, so that it is what everything runs: the tests, and agents as processes.
"""

import os
import shlex
from collections.abc import Iterator

import pytest

VARIABLE = "MOORAGE_TEST_NFT"


@pytest.fixture(scope="session", autouse=True)
def other_nft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The words of the variable as `nft`, until the last test; without the variable nothing changes."""
    words = shlex.split(os.environ.get(VARIABLE, ""))
    if not words:
        yield
        return
    path = os.environ["PATH"]
    program = tmp_path_factory.mktemp("bin") / "nft"
    # With the old PATH, because `nft` among the words would be this program again.
    program.write_text(f'#!/bin/sh\nPATH={shlex.quote(path)}\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{path}")
        yield

import asyncio
from pathlib import Path

import pytest

from moorage.cluster.kubeconfig import Config
from moorage.cluster.tokens import TOKEN_LIFE_SECONDS, Token
from moorage.errors import MoorageError

pytestmark = pytest.mark.looptime


def config(**fields: str) -> Config:
    return Config(server="https://192.0.2.1", **fields)  # type: ignore[arg-type]


async def test_a_token_of_the_kubeconfig_stays_and_wins_over_a_file(tmp_path: Path) -> None:
    token = Token(config(token="fixed", token_file=str(tmp_path / "none")))
    assert token.bearer() == "fixed"
    assert not token.refused("fixed")
    assert token.bearer() == "fixed"
    assert Token(config()).bearer() is None


async def test_a_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    token = Token(config(token_file=str(file)))
    assert token.bearer() == "one"
    file.write_text("two\n")
    await asyncio.sleep(TOKEN_LIFE_SECONDS - 1)
    assert token.bearer() == "one"
    await asyncio.sleep(2)
    assert token.bearer() == "two"


async def test_a_refused_token_is_replaced_at_once_where_the_file_has_another(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    token = Token(config(token_file=str(file)))
    assert token.bearer() == "one"
    assert not token.refused("one")
    file.write_text("two\n")
    assert token.refused("one")
    assert token.bearer() == "two"
    assert token.refused("one"), "another request that was under way"
    assert not token.refused("two")


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match=r"token file .*/token: cannot be read"):
        Token(config(token_file=str(tmp_path / "token"))).bearer()


@pytest.mark.parametrize(("text", "why"), [("\n", "is empty"), ("two\nlines", "holds characters that no token has")])
async def test_a_file_without_a_token_is_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(MoorageError, match=rf"token file .*/token: {why}; put a token there$"):
        Token(config(token_file=str(tmp_path / "token"))).bearer()

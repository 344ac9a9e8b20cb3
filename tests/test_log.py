"""Logging: one form for our records and those of the libraries."""

import io
import json
import logging
from collections.abc import Callable

import pytest

from moorage import log

Lines = Callable[[], list[str]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """The lines of standard error since it was last asked."""
    return lambda: capsys.readouterr().err.splitlines()


def test_json_lines_carry_time_level_logger_and_keys(lines: Lines) -> None:
    log.configure("info", json=True)
    log.get_logger("sync", node="node-1").info("synced", services=3)
    record = json.loads(*lines())
    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "synced", "level": "info", "logger": "sync", "node": "node-1", "services": 3}


def test_logfmt_where_nobody_looks(lines: Lines) -> None:
    log.configure()
    log.get_logger("sync").warning("nft refused it", ok=False)
    (line,) = lines()
    assert line.startswith("timestamp=")
    assert line.endswith(' level=warning event="nft refused it" logger=sync ok=false')


def test_columns_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    log.configure()
    log.get_logger("sync").info("synced")
    assert "synced" in stream.getvalue()
    assert "event=" not in stream.getvalue()


def test_libraries_records_have_the_same_form(lines: Lines) -> None:
    log.configure(json=True)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    record = json.loads(*lines())
    assert (record["event"], record["level"]) == ("slow callback", "warning")


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_records_below_the_level_are_left_out(lines: Lines, level: str, shown: int) -> None:
    log.configure(level, json=True)
    logger = log.get_logger("x")
    for write in (logger.debug, logger.info, logger.warning, logger.error):
        write("said")
    assert len(lines()) == shown


def test_a_record_with_an_exception_stays_one_line_and_keeps_secrets(lines: Lines) -> None:
    for as_json in (True, False):
        log.configure(json=as_json)
        try:
            _token = "".join(["hun", "ter2"])
            raise ZeroDivisionError
        except ZeroDivisionError:
            log.get_logger("x").exception("bug")
        (line,) = lines()
        assert "ZeroDivisionError" in line
        assert "hunter2" not in line


def test_a_logger_made_before_follows_the_set_up(lines: Lines) -> None:
    logger = log.get_logger("early")
    log.configure(json=True)
    logger.info("one")
    log.configure("error", json=True)
    logger.info("two")
    assert len(lines()) == 1


def test_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.get_logger("x").error("said")
    out, err = capsys.readouterr()
    assert out == ""
    assert "said" in err


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of debug, info, warning, error"):
        log.configure("loud")

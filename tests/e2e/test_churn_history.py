"""How a history is kept."""

from pathlib import Path

import msgspec
import pytest

from e2e.churn.history import AnyRecord, Connected, Down, Ended, Run, line, merged, read, write

RECORDS: list[AnyRecord] = [
    Run(at=1.0, seed=7, nodes=["n1"]),
    Down(at=2.5, what="agent", name="n1"),
    Connected(at=3.0, id="1", pod="uid", worker="w", service="backend", start=2.9, endpoint="e1"),
    Ended(at=4.0, id="1", how="closed"),
]


def test_a_file_holds_a_record_a_line(tmp_path: Path) -> None:
    write(tmp_path / "history", RECORDS)
    assert read(tmp_path / "history") == RECORDS
    assert len((tmp_path / "history").read_bytes().splitlines()) == len(RECORDS)
    assert line(RECORDS[1]) == b'{"event":"down","what":"agent","name":"n1","at":2.5}\n'


def test_a_last_line_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "history", RECORDS[:2])
    with (tmp_path / "history").open("ab") as file:
        file.write(line(RECORDS[2])[:20])
    assert read(tmp_path / "history") == RECORDS[:2]


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history").write_text('{"event":"down","at":1,"what":"moon"}\n')
    with pytest.raises(msgspec.ValidationError, match="moon"):
        read(tmp_path / "history")


def test_parts_are_put_together_by_time() -> None:
    assert merged(RECORDS[1::2], RECORDS[::2]) == RECORDS

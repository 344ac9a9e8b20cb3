"""The command shows what each part has measured, and fails if a part could not be."""

import pytest
from click.testing import CliRunner

from bench import __main__ as bench
from bench.namespaces import BenchError
from bench.report import Row, Table


def _measure(asked: bench.Asked) -> list[Table]:
    return [Table("Speed", ("way", "per second"), [Row(("direct", "1,000"))], "")]


def _fail(asked: bench.Asked) -> list[Table]:
    raise BenchError("bench.first ended with status 1")


def test_a_part_that_cannot_be_measured_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"first": bench.Part(1, False, _fail), "second": bench.Part(1, False, _measure)}
    monkeypatch.setattr(bench, "PARTS", parts)
    done = CliRunner().invoke(bench.main, ["--quick"])
    assert "direct" in done.stdout
    assert "1,000" in done.stdout
    assert "bench.first ended with status 1" in done.stderr
    assert "not measured: first" in done.output
    assert done.exit_code == 1

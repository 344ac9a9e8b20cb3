"""The command line as a whole: its table, its help, and how a command ends."""

import asyncio
import errno
import importlib
import os
import re
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from moorage import __version__, log
from moorage.cli import main
from moorage.errors import MoorageError
from tests.support.programs import moorage


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the command `fail` raise an exception."""

    def install(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        module = types.ModuleType("moorage_test_fail")
        module.__dict__["command"] = command
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(main.COMMANDS, "fail", main.Entry(module.__name__, "Fail.", hidden=True))

    return install


EVERY = main.COMMANDS | main.added()


@pytest.mark.parametrize("name", EVERY)
def test_every_command_of_the_table_can_be_called(name: str) -> None:
    assert isinstance(importlib.import_module(EVERY[name].module).command, click.Command)


def test_help_names_every_command_that_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    lines = [line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    shown = {line[0]: line[1].strip() for line in lines if len(line) == 2 and line[0] in EVERY}
    assert shown == {name: entry.help for name, entry in EVERY.items() if not entry.hidden}
    assert "render" in shown
    assert "outside" not in shown


async def test_help_imports_no_command_and_no_library_but_click() -> None:
    loaded = await python("main.run(['--help']); print([*sys.modules])")
    assert "click" in loaded
    for slow in ("aiohttp", "asyncio", "structlog", "rich", "msgspec", "yaml", "moorage.cli.app", "moorage_lab.cli"):
        assert slow not in loaded


async def test_the_demo_s_programs_start_without_the_logger() -> None:
    loaded = await python("main.run(['app', 'backend', '--help']); print([*sys.modules])")
    assert "moorage.apps.backend" in loaded
    assert "structlog" not in loaded


async def test_the_logger_imports_nothing_of_what_structlog_can_do_with_rich() -> None:
    loaded = await python("from moorage import log; print([*sys.modules])")
    assert "structlog" in loaded
    assert "rich" not in loaded
    assert "True" in await python("import rich; from moorage import log; print(sys.modules['rich'] is rich)")


async def test_the_product_s_commands_look_for_no_other_distribution() -> None:
    assert "importlib.metadata" not in await python("main.run(['app', 'backend', '--help']); print([*sys.modules])")


async def test_version() -> None:
    assert await moorage("--version") == (0, f"moorage {__version__}\n", "")


def test_without_the_lab_its_commands_say_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "added", dict)
    assert main.run(["demo"]) == 1
    assert capsys.readouterr().err.startswith("moorage: demo: the lab is not installed; install it from a clone ")


async def test_an_unknown_command_is_wrong_usage() -> None:
    outcome = await moorage("mooor")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.endswith("Error: No such command 'mooor'.\n")


async def test_no_command_shows_the_help_as_wrong_usage() -> None:
    outcome = await moorage()
    assert outcome.status == 2
    assert "Commands:" in outcome.stderr


def test_an_error_meant_for_a_person_is_one_line(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(MoorageError("Service a/b: spec.ports:\n  missing"))
    assert main.run(["fail"]) == 1
    assert capsys.readouterr() == ("", "moorage: Service a/b: spec.ports: missing\n")


def test_an_error_of_usage_inside_a_command_exits_2(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(click.UsageError("give one of -f and --all"))
    assert main.run(["fail"]) == 2
    assert capsys.readouterr().err.endswith("Error: give one of -f and --all\n")


def test_an_interrupt_exits_130(failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyboardInterrupt())
    assert main.run(["fail"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_ctrl_c_ends_a_program_that_only_starts_without_a_stack_trace() -> None:
    code = (
        "import os, signal; from moorage.cli import main; main.run = lambda _: os.kill(0, signal.SIGINT); main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, start_new_session=True
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_command_s_own_exit_status_is_passed_on(failing: Callable[[BaseException], None]) -> None:
    failing(click.exceptions.Exit(3))
    assert main.run(["fail"]) == 3


def test_an_error_of_the_system_is_one_line(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(PermissionError(errno.EACCES, "Permission denied", "/etc/secret"))
    assert main.run(["fail"]) == 1
    assert capsys.readouterr() == ("", "moorage: /etc/secret: Permission denied\n")


def test_a_bug_is_one_line_that_says_where_and_how_to_see_more(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(ZeroDivisionError("by zero"))
    assert main.run(["fail"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"moorage: a bug in Moorage: ZeroDivisionError: by zero \(test_main\.py:\d+\); .*moorage -v.*", line
    )


@pytest.mark.parametrize(("args", "level"), [(["-v", "fail"], "warning"), (["fail"], "info")])
def test_a_bug_shows_its_stack_trace_when_asked_and_in_a_daemon_s_log(
    failing: Callable[[BaseException], None], args: list[str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(ZeroDivisionError())
    monkeypatch.setitem(main.COMMANDS, "fail", main.COMMANDS["fail"]._replace(log_level=level))
    with pytest.raises(ZeroDivisionError):
        main.run(args)


@pytest.mark.parametrize(
    ("args", "chosen"),
    [
        (["fail"], log.Chosen("warning", json=False)),
        (["-v", "fail"], log.Chosen("debug", json=False)),
        (["--log-json", "fail"], log.Chosen("warning", json=True)),
    ],
)
def test_how_much_is_logged_is_the_command_s_unless_asked_for(
    failing: Callable[[BaseException], None], args: list[str], chosen: log.Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_chosen", log.Chosen("error", json=False))
    failing(MoorageError("no"))
    main.run(args)
    assert log.chosen() == chosen


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    manifest = tmp_path / "empty.yml"
    manifest.touch()
    with open("/dev/full", "wb") as full:
        argv = [sys.executable, "-m", "moorage", "render", "-f", str(manifest)]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "moorage: No space left on device\n")


def test_programs_of_the_administrator_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(sys, "argv", ["moorage", "--version"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        main.main()
    assert os.environ["PATH"].split(os.pathsep) == ["/usr/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"]


async def python(code: str) -> str:
    """What a Python process of its own prints for `code`, last line only."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import sys; from moorage.cli import main; {code}", stdout=asyncio.subprocess.PIPE
    )
    out, _err = await process.communicate()
    return out.decode().splitlines()[-1]

"""The hosts file and its dnsmasq; the records and the objects are tested in `test_dns` and `test_control`."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage_lab.control.cluster_dns import reload, write_changed
from tests.support.labs import until


@contextmanager
def program(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that name that does nothing."""
    path.write_text("#!/bin/sh\nread forever\n")
    path.chmod(0o755)
    # Under nohup the signal would be ignored, by children as well.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with subprocess.Popen([path], stdin=subprocess.PIPE) as process:
        try:
            # The kernel names a process only after the exec that Popen waits for.
            comm = Path(f"/proc/{process.pid}/comm")
            until(lambda: comm.read_text() == f"{path.name}\n", f"the name {path.name}")
            yield process
        finally:
            process.kill()
            signal.signal(signal.SIGHUP, before)


def test_only_a_changed_text_is_written(tmp_path: Path) -> None:
    hosts = tmp_path / "dns" / "hosts"
    assert write_changed(hosts, "10.96.0.1 a\n")
    assert not write_changed(hosts, "10.96.0.1 a\n")
    assert write_changed(hosts, "")
    assert hosts.read_text() == ""
    assert [file.name for file in hosts.parent.iterdir()] == ["hosts"]


def test_dnsmasq_gets_sighup(tmp_path: Path) -> None:
    with program(tmp_path / "dnsmasq") as process:
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        reload(tmp_path / "pid")
        assert process.wait(10) == -signal.SIGHUP


def test_another_process_of_that_number_and_a_missing_one_are_left_alone(tmp_path: Path) -> None:
    reload(tmp_path / "pid")
    with program(tmp_path / "other") as process:
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        reload(tmp_path / "pid")
        assert process.poll() is None
    reload(tmp_path / "pid")

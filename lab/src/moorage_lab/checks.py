"""Checks whether this machine can run a lab, and says what to do if it cannot."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from moorage import proc
from moorage.errors import MoorageError

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "dnsmasq": "dnsmasq-base",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "setpriv": "util-linux",
    "hostname": "hostname",
}
"""Program -> the Debian package that has it."""

UNSHARE = (
    *("unshare", "--user", "--map-root-user", "--net", "--pid", "--mount", "--uts"),
    *("--fork", "--kill-child", "--mount-proc"),
)
"""Makes every kind of namespace that a lab needs, for root and for an ordinary user alike. Without `--kill-child`,
the first process in the namespaces would survive a SIGKILL of `unshare`."""

_SYSCTLS = (
    "user/max_user_namespaces",
    "user/max_net_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path(path: str) -> str:
    """`path` with the directories of `ip` and `nft`, which Debian leaves out of an ordinary user's PATH, and our
    own."""
    parts = [part for part in path.split(os.pathsep) if part]
    more = (*_SBIN, os.path.dirname(sys.executable))
    return os.pathsep.join([*parts, *(directory for directory in more if directory not in parts)])


async def check() -> None:
    """Raise MoorageError if no lab can run here. It says what to do: install packages, or allow namespaces."""
    path = search_path(os.environ.get("PATH", ""))
    if missing := [program for program in PACKAGES if shutil.which(program, path=path) is None]:
        packages = " ".join(sorted({PACKAGES[program] for program in missing}))
        install = f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install -y {packages}"
        raise MoorageError(f"{', '.join(missing)}: not installed; install with: {install}")
    trial = await proc.run([*UNSHARE, "true"])
    if trial.status != 0:
        raise MoorageError(explain(trial.stderr, {name: _sysctl(name) for name in _SYSCTLS}, os.geteuid()))


def has_ipv6() -> bool:
    """Whether this machine's kernel has IPv6: it can be built or booted without."""
    return os.path.exists("/proc/sys/net/ipv6")


def explain(stderr: str, sysctls: Mapping[str, str | None], uid: int) -> str:
    """One line about why `unshare` failed: what to do if a setting forbids it, else the program's own words.

    `sysctls`: path below /proc/sys -> its value; None if the kernel does not have it.
    """
    for kind in ("user", "net"):
        name = f"user/max_{kind}_namespaces"
        if sysctls.get(name) == "0":
            allow = f"{'' if uid == 0 else 'sudo '}sysctl -w {name.replace('/', '.')}=10000"
            return f"this machine forbids {kind} namespaces; allow them: {allow}"
    if uid != 0 and sysctls.get("kernel/unprivileged_userns_clone") == "0":
        return (
            "this machine forbids user namespaces to ordinary users; "
            "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1, or run as root"
        )
    if uid != 0 and sysctls.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor restricts user namespaces of ordinary users (Ubuntu 24.04); "
            "allow them: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
        )
    words = " ".join(stderr.split()) or "no reason given"
    return f"cannot make namespaces: {words}; inside a container, it must be a privileged one"


def _sysctl(name: str) -> str | None:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return None

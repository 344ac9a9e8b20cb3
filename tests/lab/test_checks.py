import os
import sys

import pytest

from moorage_lab.checks import PACKAGES, explain, search_path

SYSCTLS = {
    "user/max_user_namespaces": "1000",
    "user/max_net_namespaces": "1000",
    "kernel/unprivileged_userns_clone": None,
    "kernel/apparmor_restrict_unprivileged_userns": None,
}


@pytest.mark.parametrize(
    ("changed", "uid", "expected"),
    [
        ({"user/max_user_namespaces": "0"}, 0, "sysctl -w user.max_user_namespaces=10000"),
        ({"user/max_net_namespaces": "0"}, 1000, "sudo sysctl -w user.max_net_namespaces=10000"),
        ({"kernel/unprivileged_userns_clone": "0"}, 1000, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            1000,
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(changed: dict[str, str], uid: int, expected: str) -> None:
    line = explain("unshare: unshare failed: Operation not permitted\n", {**SYSCTLS, **changed}, uid)
    assert expected in line
    assert "\n" not in line


def test_settings_for_ordinary_users_do_not_explain_what_root_is_refused() -> None:
    sysctls = {
        **SYSCTLS,
        "kernel/unprivileged_userns_clone": "0",
        "kernel/apparmor_restrict_unprivileged_userns": "1",
    }
    line = explain("unshare: mount /proc failed:\n Operation not permitted\n", sysctls, 0)
    assert line.startswith("cannot make namespaces: unshare: mount /proc failed: Operation not permitted;")


def test_programs_are_also_looked_for_in_sbin_and_beside_this_python_each_once() -> None:
    own = os.path.dirname(sys.executable)
    assert search_path("/usr/bin:/sbin").split(":") == ["/usr/bin", "/sbin", "/usr/local/sbin", "/usr/sbin", own]
    assert search_path("").split(":") == ["/usr/local/sbin", "/usr/sbin", "/sbin", own]


def test_every_program_has_a_package() -> None:
    assert {"ip", "nft", "conntrack", "dnsmasq", "unshare", "nsenter"} <= PACKAGES.keys()

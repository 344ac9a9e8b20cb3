import pytest

from moorage.api.sources_v1alpha1 import HealthCheck, HttpCheck, SecretKeyReference, TcpCheck, TlsCheck
from moorage.core.health import Subject
from moorage.errors import MoorageError
from moorage.probe.check import Check, Http, Target, Tls, check_of, targets


def test_a_tcp_check_has_times_only() -> None:
    assert check_of(HealthCheck()) == Check(2.0, 1.0, None)
    assert check_of(HealthCheck(tcp=TcpCheck(), interval_seconds=10, timeout_seconds=3)) == Check(10.0, 3.0, None)


def test_an_http_check_has_defaults() -> None:
    assert check_of(HealthCheck(http=HttpCheck())).http == Http("/", None, ((200, 399),), None)


def test_an_http_check_is_read() -> None:
    http = HttpCheck(
        path="/healthz?full=1",
        host="db.example.com",
        expected_statuses=["200", "300-308"],
        tls=TlsCheck(server_name="tls.example.com", ca_secret_ref=SecretKeyReference(name="ca", key="ca.crt")),
    )
    expected = Http(
        "/healthz?full=1", "db.example.com", ((200, 200), (300, 308)), Tls("tls.example.com", "-----BEGIN", True)
    )
    assert check_of(HealthCheck(http=http), ca="-----BEGIN").http == expected


def test_verification_is_skipped_only_when_asked() -> None:
    def read(tls: TlsCheck) -> Tls | None:
        http = check_of(HealthCheck(http=HttpCheck(tls=tls))).http
        return http and http.tls

    assert read(TlsCheck()) == Tls(verify=True)
    assert read(TlsCheck(insecure_skip_verify=True)) == Tls(verify=False)


@pytest.mark.parametrize("text", ["", "2xx", "099", "600", "200-", "300-200", "200 - 299", "٢٠٠", "200\n"])
def test_what_is_no_status_is_refused_by_its_field(text: str) -> None:
    spec = HealthCheck(http=HttpCheck(expected_statuses=["204", text]))
    with pytest.raises(MoorageError, match=r"^spec\.healthCheck\.http\.expectedStatuses\[1\]: .*; write one such as"):
        check_of(spec)


@pytest.mark.parametrize("value", ["/a\r\nHost: elsewhere", "/a b", "/ä", "/a\n"])
def test_what_would_be_another_request_is_refused_by_its_field(value: str) -> None:
    with pytest.raises(MoorageError, match=r"^spec\.healthCheck\.http\.path: "):
        check_of(HealthCheck(http=HttpCheck(path=value)))
    with pytest.raises(MoorageError, match=r"^spec\.healthCheck\.http\.host: "):
        check_of(HealthCheck(http=HttpCheck(host=value)))


@pytest.mark.parametrize("name", [".", "a..b", "a.", "a" * 64, "a\0b", "a:443"])
def test_a_name_by_which_no_server_can_be_asked_for_is_refused_by_its_field(name: str) -> None:
    with pytest.raises(MoorageError, match=r"^spec\.healthCheck\.http\.tls\.serverName: .* must be a DNS name"):
        check_of(HealthCheck(http=HttpCheck(tls=TlsCheck(server_name=name))))


def test_a_check_goes_to_its_own_port_else_to_the_endpoint_s() -> None:
    subjects = {
        "own": Subject("203.0.113.11", 80, HealthCheck(port=8080)),
        "theirs": Subject("203.0.113.12", 80, HealthCheck()),
        "unchecked": Subject("203.0.113.13", 80, None),
    }
    assert targets(subjects) == {"own": Target("203.0.113.11", 8080), "theirs": Target("203.0.113.12", 80)}

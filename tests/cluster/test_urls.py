"""URLs of servers: equal ones become equal text, and what comes out never raises later."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from moorage.cluster.urls import is_server_name, server_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://192.0.2.1:6443", "https://192.0.2.1:6443"),
        ("HTTPS://API.Example.com", "https://api.example.com"),
        ("https://api.example.com:443", "https://api.example.com"),
        ("http://api.example.com:80", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("https://api.example.com:/", "https://api.example.com"),
        ("https://api.example.com./", "https://api.example.com."),
        ("https://[2001:DB8::1]:6443/", "https://[2001:db8::1]:6443"),
        ("https://b\u00fccher.example.com", "https://xn--bcher-kva.example.com"),
        ("https://api.example.com//k8s//clusters/c-1/", "https://api.example.com/k8s/clusters/c-1"),
        ("https://api.example.com/a/./b/../c", "https://api.example.com/a/c"),
        ("https://api.example.com/../..//", "https://api.example.com"),
        ("https://api.example.com/a?b=c#d", "https://api.example.com/a"),
    ],
)
def test_a_url_is_written_in_one_way(text: str, url: str) -> None:
    assert server_url(text) == url
    assert server_url(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.example.com:6443",
        "//api.example.com",
        "ftp://api.example.com",
        "https:///path",
        "https://me@api.example.com",
        "https://api.example.com:0",
        "https://api.example.com:99999",
        "https://api.example.com:x",
        "https://api.exa\nmple.com",
        "https://api.example.com/a b",
        "https://a..example.com",
        "https://.",
        "https://" + "a" * 64 + ".example.com",
        "https://xn--",
        "https://[2001:db8::1",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        server_url(text)


@given(st.text(alphabet="htps:/.@[]%0aZ\u00fc\u3002 ?#\\-_:12", max_size=40).map("https://a".__add__) | st.text())
def test_whatever_text_it_is_only_a_value_error_is_raised(text: str) -> None:
    try:
        url = server_url(text)
    except ValueError:
        return
    assert server_url(url) == url
    assert url.startswith(("http://", "https://"))
    assert URL(url).host


@pytest.mark.parametrize("name", ["api.example.com", "kube", "192.0.2.1", "2001:db8::1", "_a.b", "A"])
def test_a_name_by_which_a_server_is_asked_for(name: str) -> None:
    assert is_server_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "...", "a..b", ".a", "a.", "a" * 64, "a." * 126 + "aa", "\0", "\u202e", "a:443"]
)
def test_a_name_by_which_none_can_be_asked_for(name: str) -> None:
    assert not is_server_name(name)

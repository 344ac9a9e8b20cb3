import pytest

from moorage.cluster.warnings import warnings


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ('299 - "v1 Endpoints is deprecated"', ["v1 Endpoints is deprecated"]),
        ('299 - "a \\"quoted\\" \\\\ text"', ['a "quoted" \\ text']),
        ('299 - "one", 299 - "two"', ["one", "two"]),
        ('299 kube-apiserver "said" "Mon, 30 Nov 2026 07:00:00 GMT"', ["said"]),
        ('299 - "red \x1b[31m text"', ["red [31m text"]),
        ('110 anderson/1.3.37 "Response is stale"', []),
        ("299 - never closed", []),
        ("", []),
    ],
)
def test_the_text_is_read_of_a_warning_header(header: str, texts: list[str]) -> None:
    assert list(warnings([header])) == texts

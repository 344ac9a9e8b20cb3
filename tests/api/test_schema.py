import pytest

from moorage.api import schema
from moorage.api.schema import Rule

TEXTS = {name: rule for name, rule in vars(schema).items() if isinstance(rule, Rule) and name != "IMMUTABLE"}


@pytest.mark.parametrize("rule", TEXTS.values(), ids=TEXTS)
def test_a_rule_is_one_line_of_cel_that_quotes_what_it_matches(rule: Rule) -> None:
    assert rule.cel.isprintable()
    assert rule.cel.count("'") % 2 == 0
    assert rule.message.startswith("must ")
    assert "self" in rule.cel


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("LABEL", ["a", "1", "a-b"], ["A", "-a", "a-", "a.b", "a\n"]),
        ("SUBDOMAIN", ["a", "a.b-c"], ["a..b", ".a", "a/b"]),
        ("SECRET_KEY", ["ca.crt", "A_b-c"], ["a/b", "a b"]),
        ("DNS_NAME", ["db.example.com", "_db._tcp.Example.com.", "a"], ["a..b", "a b", "https://a", "a:80", "-a"]),
        ("NO_ADDRESS", ["a", "1.2.3"], ["203.0.113.1", "2001:db8::1"]),
        ("ADDRESS", ["203.0.113.1", "2001:DB8::1"], ["203.0.113.01", "::ffff:203.0.113.1", "fe80::1%a", "a", "1"]),
        ("HOST", ["a", "a.b:80", "[2001:db8::1]:80", "203.0.113.1"], ["2001:db8::1", "a/b", "a:b", "a b"]),
        ("SERVER_NAME", ["a.b", "203.0.113.1", "2001:db8::1"], ["a:80", "a.", "*.a"]),
        ("PATH", ["/", "/a?b=%20"], ["a", "/ ", "/\n", "/\u00e9"]),
        ("STATUS", ["200", "200-399", "599"], ["099", "600", "2xx", "200-", "200,201"]),
        ("STATUS_ORDER", ["200", "200-200", "200-399"], ["399-200"]),
        ("TIME", ["2027-01-01T00:00:00Z", "2027-12-31T23:59:59.5+01:00"], ["2027-02-30T00:00:00Z", "2027-01-01", ""]),
        ("QUALIFIED_NAME", ["app", "example.com/App_1"], ["/app", "a/b/c", "-a", "A.com/x"]),
        ("LABEL_VALUE", ["", "a", "A_b.c"], ["-a", "a b", "a" * 64]),
    ],
)
def test_what_a_text_may_be(name: str, right: list[str], wrong: list[str]) -> None:
    holds = TEXTS[name].holds
    assert [text for text in right if not holds(text)] == []
    assert [text for text in wrong if holds(text)] == []


def test_every_text_has_its_examples() -> None:
    (marks,) = test_what_a_text_may_be.pytestmark  # type: ignore[attr-defined]
    assert {name for name, *_ in marks.args[1]} == set(TEXTS)

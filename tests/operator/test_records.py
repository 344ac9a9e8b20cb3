"""One record for each ExternalService, which goes as a whole."""

from moorage.api.meta import ObjectKey
from moorage.operator.records import Records

ONE, TWO = ObjectKey("default", "one"), ObjectKey("default", "two")


def test_a_record_is_made_once_and_dropped_whole() -> None:
    records = Records()
    assert records.get(ONE) is None
    record = records.of(ONE)
    assert records.of(ONE) is records.get(ONE) is record
    record.conflicts = 3
    records.use(record, frozenset({"203.0.113.1"}))
    records.drop(ONE)
    records.drop(TWO)
    assert list(records) == []
    assert records.users(["203.0.113.1"]) == set()
    assert records.of(ONE).conflicts == 0


def test_who_uses_an_address_is_found_by_it() -> None:
    records = Records()
    one, two = records.of(ONE), records.of(TWO)
    records.use(one, frozenset({"203.0.113.1", "203.0.113.2"}))
    records.use(two, frozenset({"203.0.113.2"}))
    assert records.users(["203.0.113.2", "203.0.113.9"]) == {ONE, TWO}
    records.use(one, frozenset({"203.0.113.1"}))
    assert (records.users(["203.0.113.1"]), records.users(["203.0.113.2"])) == ({ONE}, {TWO})

import re
from datetime import UTC, datetime, timedelta

from moorage.cluster.clock import micro_timestamp, timestamp


def test_times_are_as_kubernetes_writes_them_and_of_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    for text, form in (
        (timestamp(), r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
        (micro_timestamp(), r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"),
    ):
        assert re.fullmatch(form, text)
        assert before <= datetime.fromisoformat(text) <= datetime.now(UTC) + timedelta(seconds=1)

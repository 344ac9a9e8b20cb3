"""Pages of lists, and objects of events."""

import msgspec
import pytest

from moorage.api.core_v1 import Service
from moorage.cluster.reading import Whole

READING = Whole(Service)


def test_a_page_has_objects_and_says_how_the_list_goes_on() -> None:
    page = READING.page(
        b'{"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [{"metadata": {"name": "a"}}]}'
    )
    assert [each.metadata.name for each in page.items] == ["a"]
    assert (page.resource_version, page.more) == ("7", "x")


def test_a_list_without_items_is_empty() -> None:
    assert READING.page(b'{"metadata": {}, "items": null}').items == []


def test_an_object_is_read_whole() -> None:
    assert READING.one(b'{"metadata": {"name": "a", "labels": {"b": "c"}}}').metadata.labels == {"b": "c"}


def test_what_is_none_is_said() -> None:
    with pytest.raises(msgspec.DecodeError):
        READING.page(b"[]")

"""What is kept of objects that there are many of."""

from moorage.api.meta import ObjectMeta, OwnerReference
from moorage.api.slim import identity, interned


def test_only_what_identifies_an_object_is_kept() -> None:
    whole = ObjectMeta(
        name="frontend-0",
        namespace="frontend",
        uid="1",
        resource_version="7",
        labels={"app": "frontend"},
        annotations={"a": "b"},
        creation_timestamp="2027-01-01T00:00:00Z",
        owner_references=[OwnerReference(api_version="apps/v1", kind="StatefulSet", name="frontend", uid="2")],
    )
    assert identity(whole) == ObjectMeta(name="frontend-0", namespace="frontend", uid="1", resource_version="7")


def test_equal_texts_are_held_once() -> None:
    assert interned("".join(["front", "end"])) is interned("".join(["fronte", "nd"]))
    assert interned(None) is None

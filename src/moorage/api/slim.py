"""Parts of objects for copies that are held in great numbers."""

from sys import intern

from moorage.api.meta import ObjectMeta


def identity(meta: ObjectMeta) -> ObjectMeta:
    """What tells which object it is, and in which version, and nothing else."""
    return ObjectMeta(
        name=meta.name, namespace=interned(meta.namespace), uid=meta.uid, resource_version=meta.resource_version
    )


def interned(text: str | None) -> str | None:
    """An equal text, which is held once however many objects have it."""
    return None if text is None else intern(text)

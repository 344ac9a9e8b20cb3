"""Who owns an object. Objects of others are never changed."""

from moorage.api.meta import ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import GROUP, VERSION, ExternalService

KIND = "ExternalService"


def reference(xsvc: ExternalService) -> OwnerReference:
    """The owner reference of our objects, so that Kubernetes' garbage collector removes them after `xsvc`.

    Without blockOwnerDeletion, which needs more rights in clusters with OwnerReferencesPermissionEnforcement.
    """
    assert xsvc.metadata.uid is not None, "an object that was read has a uid"
    return OwnerReference(
        api_version=f"{GROUP}/{VERSION}",
        kind=KIND,
        name=xsvc.metadata.name,
        uid=xsvc.metadata.uid,
        controller=True,
    )


def owns(xsvc: ExternalService, meta: ObjectMeta) -> bool:
    """Whether the object was made for this very ExternalService."""
    return any(each.controller and each.uid == xsvc.metadata.uid for each in meta.owner_references or ())


def predecessor_owns(xsvc: ExternalService, meta: ObjectMeta) -> bool:
    """Whether it was made for an earlier ExternalService of the same name. Then it will soon be deleted."""
    return any(
        each.controller and each.kind == KIND and each.name == xsvc.metadata.name and each.uid != xsvc.metadata.uid
        for each in meta.owner_references or ()
    )

"""Whose an object is: what is not ours is never changed."""

from moorage.api.meta import ObjectMeta, OwnerReference
from moorage.api.moorage_v1alpha1 import GROUP, VERSION, ExternalService

KIND = "ExternalService"


def reference(xsvc: ExternalService) -> OwnerReference:
    """What our objects carry, so that Kubernetes' garbage collector removes them after `xsvc`.

    Without blockOwnerDeletion, for which clusters with OwnerReferencesPermissionEnforcement ask for more rights.
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
    """Whether the object was written for this very ExternalService."""
    return any(each.controller and each.uid == xsvc.metadata.uid for each in meta.owner_references or ())


def predecessor_owns(xsvc: ExternalService, meta: ObjectMeta) -> bool:
    """Whether it was written for an ExternalService of the same name that is deleted; it is going to be, too."""
    return any(
        each.controller and each.kind == KIND and each.name == xsvc.metadata.name and each.uid != xsvc.metadata.uid
        for each in meta.owner_references or ()
    )

"""What the accounts of Moorage have to be allowed to do. `tests/check` holds it to the manifests of `deploy/`."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Right(NamedTuple):
    """One verb on one resource."""

    verb: str
    group: str
    """`""`: the core group."""
    resource: str
    """With its subresource, if there is one: `externalservices/status`."""
    namespace: str = ""
    """`""`: in all namespaces."""
    name: str = ""
    """`""`: any."""

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        name = f"{resource}/{self.name}" if self.name else resource
        return f"{self.verb} {name}" + (f" in {self.namespace}" if self.namespace else "")

    @property
    def attributes(self) -> dict[str, Any]:
        """As `resourceAttributes` of a SubjectAccessReview (`authorization.k8s.io/v1`)."""
        resource, _, subresource = self.resource.partition("/")
        found = {"verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource}
        return {**found, "namespace": self.namespace, "name": self.name}


_Rule = tuple[str, str, str]
"""A group, resources, and verbs, both with spaces between them."""
_OPERATOR: tuple[_Rule, ...] = (
    ("moorage.dev", "externalservices", "get list watch"),
    ("moorage.dev", "externalservices/status", "patch"),
    ("", "services", "get list watch create patch"),
    ("discovery.k8s.io", "endpointslices", "get list watch create patch delete"),
    ("moorage.dev", "moorings", "get list watch create patch delete manage"),
    ("", "events", "get create patch"),
    ("", "nodes pods", "get list watch"),
    ("networking.k8s.io", "servicecidrs", "get list watch"),
    ("apps", "replicasets statefulsets", "list watch"),
    ("batch", "jobs", "list watch"),
)
_AGENT: tuple[_Rule, ...] = (
    ("", "services", "list watch"),
    ("discovery.k8s.io", "endpointslices", "list watch"),
    ("", "nodes pods", "list watch"),
    ("moorage.dev", "moorings", "get list watch"),
    ("apps", "replicasets", "get"),
    ("batch", "jobs", "get"),
)
_INSTALLER: tuple[_Rule, ...] = (
    ("", "namespaces serviceaccounts configmaps resourcequotas", "create"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "create"),
    ("apps", "deployments daemonsets", "create"),
    ("policy", "poddisruptionbudgets", "create"),
    ("networking.k8s.io", "networkpolicies", "create"),
    ("rbac.authorization.k8s.io", "clusterroles clusterrolebindings roles rolebindings", "create"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies validatingadmissionpolicybindings", "create"),
)
_TRIAL: tuple[_Rule, ...] = (
    ("", "pods", "create list"),
    ("", "services", "create"),
    ("discovery.k8s.io", "endpointslices", "create"),
)
_TRIAL_DELETES: tuple[_Rule, ...] = (
    ("", "pods services", "delete"),
    ("discovery.k8s.io", "endpointslices", "delete"),
)
LEASE = "moorage-operator"
"""The Lease that the operator's leader holds."""


def of_operator(namespace: str) -> list[Right]:
    """Those of the operator's account; its Lease is in this namespace."""
    lease = [
        Right("create", "coordination.k8s.io", "leases", namespace),
        *(Right(verb, "coordination.k8s.io", "leases", namespace, LEASE) for verb in ("get", "patch")),
    ]
    return [*_rights(_OPERATOR), *lease]


def of_agent() -> list[Right]:
    """Those of the node agents' account."""
    return [*_rights(_AGENT)]


def of_installer() -> list[Right]:
    """Those of whoever installs Moorage by `kubectl apply -k deploy`, for the first time."""
    return [*_rights(_INSTALLER)]


def of_trial(namespace: str, *, is_new: bool) -> list[Right]:
    """Those of whoever tries the service proxy, in this namespace, which is made and deleted, if it `is_new`."""
    around = [Right("list", "", "nodes")]
    if is_new:
        around += [Right(verb, "", "namespaces", "", name) for verb, name in (("create", ""), ("delete", namespace))]
    return [*around, *_rights((*_TRIAL, *(() if is_new else _TRIAL_DELETES)), namespace)]


def _rights(rules: Iterable[_Rule], namespace: str = "") -> Iterator[Right]:
    for group, resources, verbs in rules:
        for resource in resources.split():
            yield from (Right(verb, group, resource, namespace) for verb in verbs.split())

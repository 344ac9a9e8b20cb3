"""Rules about several fields of a struct of `moorage_v1alpha1`, each as CEL and as Python.

A rule must not rely on what the schema requires: an object that an older schema let in may lack it. A rule that
cannot be evaluated refuses every write, even of the status; a rule that is broken tolerates unchanged fields.

The API server estimates the cost of CEL when the CustomResourceDefinition is created, from the longest lists that
the schema allows.
"""

from collections.abc import Iterable, Mapping

from moorage.api.meta import LabelSelectorRequirement
from moorage.api.moorage_v1alpha1 import KINDS_OF_PODS, ExternalServiceSpec, MooringConfig
from moorage.api.schema import Rule
from moorage.api.sources_v1alpha1 import EndpointSource, HealthCheck, StaticAddress, TlsCheck


def _distinct(items: str) -> str:
    """CEL that is true if no two items of a list are equal.

    The list is computed once, as the one item of another list, and searched with functions: comparing each pair in
    CEL takes the API server seconds.
    """
    return f"[{items}].all(found, found.all(one, found.indexOf(one) == found.lastIndexOf(one)))"


def _unique(values: Iterable[object]) -> bool:
    found = list(values)
    return len(set(found)) == len(found)


def _one_source(source: EndpointSource) -> bool:
    return sum(one is not None for one in (source.addresses, source.dns, source.cluster)) == 1


def _addresses(spec: ExternalServiceSpec) -> list[StaticAddress]:
    return [address for source in spec.endpoints or () for address in source.addresses or ()]


def _mooring(spec: ExternalServiceSpec) -> MooringConfig | None:
    return spec.session_affinity_config.mooring if spec.session_affinity_config else None


def _values_fit(requirement: LabelSelectorRequirement) -> bool:
    return (requirement.operator in ("In", "NotIn")) == bool(requirement.values)


_OF_PODS = f"[{', '.join(map(repr, KINDS_OF_PODS))}]"
"""In CEL."""

_SPEC = (
    Rule(
        # These cannot be keys of the list: the protocol would need a default. UDP ports count as negative numbers.
        "!has(self.ports) || "
        + _distinct(
            "self.ports.filter(p, has(p.port)).map(p, has(p.protocol) && p.protocol == 'UDP' ? -p.port : p.port)"
        ),
        "must not have a port twice with one protocol; change or remove one",
        lambda spec: _unique((port.port, port.protocol) for port in spec.ports),
        ".ports",
    ),
    Rule(
        "!has(self.ports) || self.ports.size() < 2 || self.ports.all(p, has(p.name))",
        "must have a name for each port where there are several; name each",
        lambda spec: len(spec.ports) < 2 or all(port.name is not None for port in spec.ports),
        ".ports",
    ),
    Rule(
        f"!has(self.ports) || {_distinct('self.ports.filter(p, has(p.name)).map(p, p.name)')}",
        "must not have two ports of one name; give each port its own",
        lambda spec: _unique(port.name for port in spec.ports if port.name is not None),
        ".ports",
    ),
    Rule(
        "!has(self.ports) || self.ports.size() < 2 || !has(self.endpoints) || "
        "self.endpoints.all(e, !has(e.addresses) || e.addresses.all(a, !has(a.port)))",
        "must not have an address with a port of its own where spec.ports has several; "
        "use targetPort, or an ExternalService for each port",
        lambda spec: len(spec.ports) < 2 or all(address.port is None for address in _addresses(spec)),
        ".endpoints",
    ),
    Rule(
        "!has(self.ports) || self.ports.size() < 2 || !has(self.endpoints) || "
        "self.endpoints.all(e, !has(e.dns) || !has(e.dns.type) || e.dns.type != 'SRV')",
        "must not have an SRV name, whose records say the port, where spec.ports has several; "
        "use an ExternalService for each port",
        lambda spec: (
            len(spec.ports) < 2 or all(one.dns is None or one.dns.type != "SRV" for one in spec.endpoints or ())
        ),
        ".endpoints",
    ),
    Rule(
        "!has(self.ports) || !has(self.healthCheck) || has(self.healthCheck.port) || "
        "self.ports.exists(p, !has(p.protocol) || p.protocol == 'TCP')",
        "must have a port, because none of spec.ports is TCP and checks use TCP; set healthCheck.port",
        lambda spec: (
            spec.health_check is None
            or spec.health_check.port is not None
            or any(port.protocol == "TCP" for port in spec.ports)
        ),
        ".healthCheck",
    ),
    Rule(
        "self.sessionAffinity != 'Mooring' || "
        "(has(self.sessionAffinityConfig) && has(self.sessionAffinityConfig.mooring))",
        "must not be Mooring without sessionAffinityConfig.mooring, which says who the clients are; set its client "
        "to Node, Zone or Namespace, or its podSelector",
        lambda spec: spec.session_affinity != "Mooring" or _mooring(spec) is not None,
        ".sessionAffinity",
    ),
    Rule(
        "self.sessionAffinity != 'Mooring' || self.proxy == 'moorage' || !has(self.sessionAffinityConfig) || "
        f"!has(self.sessionAffinityConfig.mooring) || !(self.sessionAffinityConfig.mooring.client in {_OF_PODS})",
        "must not be Mooring of pods with proxy kube-proxy, which knows nodes and zones only; set proxy: moorage, "
        "which needs the node agent, or client: Node, Zone or Namespace, or sessionAffinity: ClientIP",
        lambda spec: (
            spec.session_affinity != "Mooring"
            or spec.proxy == "moorage"
            or (mooring := _mooring(spec)) is None
            or mooring.client not in KINDS_OF_PODS
        ),
        ".sessionAffinity",
    ),
    Rule(
        "!has(self.trafficDistribution) || self.sessionAffinity != 'Mooring'",
        "must not be given with sessionAffinity Mooring, where moorings say who goes where; remove one of them",
        lambda spec: spec.traffic_distribution is None or spec.session_affinity != "Mooring",
        ".trafficDistribution",
    ),
    Rule(
        "self.sessionAffinity != 'None' || !has(self.sessionAffinityConfig) || "
        "!has(self.sessionAffinityConfig.clientIP)",
        "must not have clientIP with sessionAffinity None; remove it, or set sessionAffinity: ClientIP",
        lambda spec: (
            spec.session_affinity != "None"
            or spec.session_affinity_config is None
            or spec.session_affinity_config.client_ip is None
        ),
        ".sessionAffinityConfig",
    ),
    Rule(
        "self.sessionAffinity == 'Mooring' || !has(self.sessionAffinityConfig) || "
        "!has(self.sessionAffinityConfig.mooring)",
        "must not have mooring with another sessionAffinity; remove it, or set sessionAffinity: Mooring",
        lambda spec: (
            spec.session_affinity == "Mooring"
            or spec.session_affinity_config is None
            or spec.session_affinity_config.mooring is None
        ),
        ".sessionAffinityConfig",
    ),
    Rule(
        "!has(self.ipFamilies) || self.ipFamilies.size() < 2 || self.ipFamilies[0] != self.ipFamilies[1]",
        "must not name an IP family twice; list each once",
        lambda spec: _unique(spec.ip_families or ()),
        ".ipFamilies",
    ),
    Rule(
        # The Service's own default would be SingleStack, and the API server would refuse it.
        "!has(self.ipFamilies) || self.ipFamilies.size() < 2 || "
        "(has(self.ipFamilyPolicy) && self.ipFamilyPolicy != 'SingleStack')",
        "must be PreferDualStack or RequireDualStack with two ipFamilies; set one of these, or keep one family",
        lambda spec: (
            len(spec.ip_families or ()) < 2 or spec.ip_family_policy in ("PreferDualStack", "RequireDualStack")
        ),
        ".ipFamilyPolicy",
    ),
)

RULES: Mapping[type, tuple[Rule, ...]] = {
    ExternalServiceSpec: _SPEC,
    MooringConfig: (
        Rule(
            f"!(self.client in {_OF_PODS}) || has(self.podSelector)",
            "must have podSelector with client Pod, Workload or Label, or each pod of a Job would be a client; set "
            "it, such as matchLabels: {app: frontend}",
            lambda mooring: mooring.client not in KINDS_OF_PODS or mooring.pod_selector is not None,
            ".podSelector",
        ),
        Rule(
            f"self.client in {_OF_PODS} || !has(self.podSelector)",
            "must not have podSelector with client Node, Zone or Namespace, which are clients as a whole; remove it",
            lambda mooring: mooring.client in KINDS_OF_PODS or mooring.pod_selector is None,
            ".podSelector",
        ),
        Rule(
            "self.client != 'Label' || has(self.label)",
            "must have label with client Label; set it to the key of the pods' label, such as example.com/tenant",
            lambda mooring: mooring.client != "Label" or mooring.label is not None,
            ".label",
        ),
        Rule(
            "self.client == 'Label' || !has(self.label)",
            "must not have label with another client than Label; remove it, or set client: Label",
            lambda mooring: mooring.client == "Label" or mooring.label is None,
            ".label",
        ),
    ),
    EndpointSource: (
        Rule(
            "[has(self.addresses), has(self.dns), has(self.cluster)].exists_one(given, given)",
            "must have exactly one of addresses, dns and cluster; write an entry for each source",
            _one_source,
        ),
        Rule(
            "!has(self.addresses) || "
            + _distinct("self.addresses.filter(a, has(a.address)).map(a, has(a.name) ? a.name : a.address)"),
            "must not name an endpoint, or list an address without name, twice; give each its own name",
            lambda source: _unique(one.name or one.address for one in source.addresses or ()),
            ".addresses",
        ),
    ),
    HealthCheck: (
        Rule(
            "!has(self.tcp) || !has(self.http)",
            "must not have both tcp and http; remove one",
            lambda check: check.tcp is None or check.http is None,
        ),
        Rule(
            "self.timeoutSeconds <= self.intervalSeconds",
            "must not be longer than intervalSeconds; lower it, so that a check ends before the next begins",
            lambda check: check.timeout_seconds <= check.interval_seconds,
            ".timeoutSeconds",
        ),
    ),
    TlsCheck: (
        Rule(
            "!has(self.caSecretRef) || !has(self.insecureSkipVerify) || !self.insecureSkipVerify",
            "must not be given with insecureSkipVerify, which would not look at it; remove one",
            lambda tls: tls.ca_secret_ref is None or not tls.insecure_skip_verify,
            ".caSecretRef",
        ),
    ),
    LabelSelectorRequirement: (
        Rule(
            "!has(self.operator) || "
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "must have values with In and NotIn, and none with Exists and DoesNotExist; add or remove them",
            _values_fit,
        ),
    ),
}
"""The rules about a struct's value, by struct."""

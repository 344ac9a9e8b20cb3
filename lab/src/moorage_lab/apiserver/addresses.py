"""ClusterIPs: which families and addresses a Service has (upstream `registry/core/service/storage/alloc.go`)."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from itertools import chain

from moorage.errors import MoorageError
from moorage_lab.apiserver.objects import Obj, dig, name_of, namespace_of
from moorage_lab.apiserver.status import Cause


class AllocationError(Exception):
    """The Service cannot have the families or addresses that it asks for; `cause` names the field."""

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.cause = Cause(reason, message, field)


class _Range:
    """One address range, whose addresses are handed out in turn."""

    def __init__(self, cidr: str) -> None:
        try:
            self.network = ip_network(cidr)
        except ValueError as error:
            raise MoorageError(f"service range {cidr}: {error}; give a CIDR such as 10.96.0.0/12") from None
        size = self.network.num_addresses
        if size < 8:
            raise MoorageError(f"service range {cidr}: too small; give at least 8 addresses")
        self.family = f"IPv{self.network.version}"
        self.last = size - (2 if self.network.version == 4 else 1)
        # KEP-3070: a band at the start is left to addresses that users choose (cluster DNS at .10).
        self.first = min(max(16, size // 16), 256) if size >= 32 else 1
        self._next = self.first

    def holds(self, address: str) -> bool:
        """Whether the range may give out this address; not the first one, nor IPv4's broadcast address."""
        parsed = ip_address(address)
        if parsed.version != self.network.version or parsed not in self.network:
            return False
        return 1 <= int(parsed) - int(self.network.network_address) <= self.last

    def pick(self, used: dict[str, tuple[str, str]]) -> str | None:
        """The next free address; None if all are used."""
        turns = (range(self._next, self.last + 1), range(self.first, self._next), range(1, self.first))
        for offset in chain(*turns):
            address = str(self.network[offset])
            if address not in used:
                self._next = offset + 1 if offset < self.last else self.first
                return address
        return None


class ClusterIPs:
    """The addresses of one cluster's Services. The first range's family is the cluster's own."""

    def __init__(self, cidrs: Sequence[str]) -> None:
        """`cidrs`: one range, or two of different families. Raises MoorageError for anything else."""
        ranges = [_Range(cidr) for cidr in cidrs]
        self._ranges = {one.family: one for one in ranges}
        if not ranges or len(self._ranges) != len(ranges):
            raise MoorageError(f"service ranges {', '.join(cidrs)}: give one range, or one of each family")
        self.cidrs = tuple(cidrs)
        self._used: dict[str, tuple[str, str]] = {}

    def record(self, service: Obj) -> None:
        for address in _addresses(service):
            self._used[address] = (namespace_of(service), name_of(service))

    def release(self, service: Obj) -> None:
        for address in _addresses(service):
            self._used.pop(address, None)

    def assign(self, service: Obj, old: Obj | None) -> None:
        """Fill in families, policy and addresses of `service`, in place, keeping what `old` has.

        Nothing is reserved until `record`. Raises AllocationError.
        """
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
                spec.pop(field, None)
            return
        before = (dig(old, "spec") or {}) if dig(old, "spec", "type") != "ExternalName" else {}
        _keep(spec, before)
        _agree(spec)
        _unchanged(spec, before)
        headless = spec.get("clusterIP") == "None"
        families = self._families(spec, headless)
        if headless:
            spec["clusterIPs"] = ["None"]
        else:
            self._addresses(service, families)
            spec["clusterIP"] = spec["clusterIPs"][0]
        spec["ipFamilies"] = families

    def _families(self, spec: Obj, headless: bool) -> list[str]:
        asked = list(spec.get("ipFamilies") or [])
        if not asked:
            addresses = [address for address in spec.get("clusterIPs") or [] if address != "None"]
            asked = [f"IPv{ip_address(address).version}" for address in addresses] or [next(iter(self._ranges))]
        external = headless and not spec.get("selector")
        policy = spec.setdefault(
            "ipFamilyPolicy", "RequireDualStack" if external or len(asked) > 1 else "SingleStack"
        )
        if policy == "SingleStack" and len(asked) > 1:
            if len(spec.get("ipFamilies") or []) > 1:
                raise _invalid(
                    "spec.ipFamilyPolicy",
                    spec["ipFamilyPolicy"],
                    "must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified",
                )
            asked = asked[:1]
        if not external:
            for index, family in enumerate(asked):
                if family not in self._ranges:
                    raise _invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
            if policy == "RequireDualStack" and len(self._ranges) < 2:
                raise _invalid(
                    "spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"
                )
        if policy != "SingleStack" and len(asked) == 1:
            other = "IPv6" if asked == ["IPv4"] else "IPv4"
            asked += [other] if external or other in self._ranges else []
        return asked

    def _addresses(self, service: Obj, families: list[str]) -> None:
        spec = service["spec"]
        addresses = list(spec.get("clusterIPs") or [])[: len(families)]
        owner = (namespace_of(service), name_of(service))
        for index, family in enumerate(families):
            pool = self._ranges[family]
            if index >= len(addresses):
                picked = pool.pick({**self._used, **dict.fromkeys(addresses, owner)} if addresses else self._used)
                if picked is None:
                    raise AllocationError("spec.clusterIPs", "InternalError", f"range {pool.network} is full")
                addresses.append(picked)
                continue
            address = addresses[index]
            if self._used.get(address, owner) != owner:
                raise self._refused(addresses, address, "provided IP is already allocated")
            if not pool.holds(address):
                why = f"the provided network does not match the current range {pool.network}"
                raise self._refused(addresses, address, why)
        spec["clusterIPs"] = addresses

    @staticmethod
    def _refused(addresses: list[str], address: str, why: str) -> AllocationError:
        return _invalid("spec.clusterIPs", addresses, f"failed to allocate IP {address}: {why}")


def _addresses(service: Obj) -> list[str]:
    return [address for address in dig(service, "spec", "clusterIPs") or [] if address != "None"]


def _invalid(field: str, value: object, why: str) -> AllocationError:
    shown = "[" + ",".join(f'"{one}"' for one in value) + "]" if isinstance(value, list) else f'"{value}"'
    return AllocationError(field, "FieldValueInvalid", f"Invalid value: {shown}: {why}")


def _keep(spec: Obj, before: Obj) -> None:
    """Fields that an update leaves empty keep their values (upstream `patchAllocatedValues`)."""
    if not before:
        return
    for field in ("clusterIP", "ipFamilyPolicy"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    if spec.get("clusterIP") == before.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = list(before.get("clusterIPs") or [])
    if not spec.get("ipFamilies"):
        spec["ipFamilies"] = list(before.get("ipFamilies") or [])
    if spec.get("clusterIP") != before.get("clusterIP") and spec.get("clusterIPs") == before.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    shrink = spec.get("ipFamilyPolicy") == "SingleStack" != before.get("ipFamilyPolicy")
    if shrink and spec["ipFamilies"] == before.get("ipFamilies"):
        spec["ipFamilies"] = spec["ipFamilies"][:1]
        spec["clusterIPs"] = list(spec.get("clusterIPs") or [])[:1]


def _unchanged(spec: Obj, before: Obj) -> None:
    pairs = zip(spec.get("clusterIPs") or [], before.get("clusterIPs") or [], strict=False)
    for index, (new, old) in enumerate(pairs):
        if new != old:
            raise _invalid(f"spec.clusterIPs[{index}]", spec["clusterIPs"], "may not change once set")


def _agree(spec: Obj) -> None:
    """`clusterIP` and the first of `clusterIPs` are one value (upstream `normalizeClusterIPs`)."""
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    elif spec.get("clusterIPs") and not spec.get("clusterIP"):
        spec["clusterIP"] = spec["clusterIPs"][0]
    if not spec.get("clusterIPs"):
        return
    if spec["clusterIPs"][0] != spec["clusterIP"]:
        raise _invalid("spec.clusterIPs", spec["clusterIPs"], "first value must match `clusterIP`")
    for address in spec["clusterIPs"]:
        try:
            if address != "None":
                ip_address(address)
        except ValueError:
            raise _invalid("spec.clusterIPs", spec["clusterIPs"], f"{address} is not an IP address") from None

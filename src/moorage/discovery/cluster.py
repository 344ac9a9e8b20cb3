"""The `cluster` source: each LoadBalancer Service of another cluster is an endpoint."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from moorage.api.addresses import as_kubernetes_reads
from moorage.api.core_v1 import LoadBalancerIngress, Secret, Service
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalServicePort
from moorage.api.show import show
from moorage.api.sources_v1alpha1 import ClusterSource
from moorage.cluster.errors import ApiError, one_line
from moorage.cluster.kubeconfig import Config
from moorage.cluster.pace import Pace
from moorage.cluster.room import NoRoomError
from moorage.core.admission import Gate
from moorage.core.model import Found, Problem
from moorage.discovery import selectors
from moorage.discovery.choice import Choices, addresses_of
from moorage.discovery.following import RepeatedLookup
from moorage.discovery.loadbalancers import LoadBalancers, SelectedServices, TooManyClustersError
from moorage.discovery.resolver import Addresses, Names
from moorage.discovery.secrets import ReadSecret, SecretKey, Secrets
from moorage.discovery.shared import Shared
from moorage.discovery.source import MAX_ENDPOINTS, MAX_LOOKUPS_PER_SECOND, Setting, Source, State
from moorage.discovery.tenant import Kubeconfig, read_kubeconfig
from moorage.discovery.watched import Trouble
from moorage.errors import MoorageError

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LOOK_AGAIN_SECONDS = 60.0
"""How long until a kubeconfig that was refused is checked again."""
MAX_MESSAGE_CHARACTERS = 500
LOOKS_PER_SECOND = 5.0
"""After a burst of 10. Looking at all Services takes hundredths of a second, and a server may change them one at a
time."""
MAX_ADDRESSES = 16
"""Of a host name; the lowest ones are used."""
MAX_PORTS_NAMED = 5
"""In one note."""


class _EndpointMade(NamedTuple):
    """The endpoint for a Service. It is made again when the Service or an answer about its host names changes."""

    service: Service
    answers: tuple[Addresses | None, ...]
    found: Found | None
    notes: list[str]


class ClusterServices(Source):
    """Follows a Secret, the cluster that it gives access to, and the host names of load balancers there.

    Endpoints stay while any of these cannot be read, even if the Secret or the right to read it is gone.
    """

    def __init__(
        self,
        spec: ClusterSource,
        namespace: str,
        names: Names,
        gate: Callable[[], Gate],
        secrets: Secrets,
        clusters: Shared[SelectedServices, LoadBalancers],
        setting: Setting,
    ) -> None:
        super().__init__(setting)
        self._spec = spec
        self._secret_key = SecretKey(namespace, spec.kubeconfig_secret_ref.name, spec.kubeconfig_secret_ref.key)
        self._names = names
        self._gate = gate
        self._secrets = secrets
        self._clusters = clusters
        self._secret: ReadSecret | None = None
        self._selected: SelectedServices | None = None
        self._balancers: LoadBalancers | None = None
        self._config_problem: Problem | None = None
        self._read: tuple[str | None, ...] | None = None
        """uid and resourceVersion of the Secret when it was last read."""
        self._hosts: dict[str, tuple[RepeatedLookup[Addresses], asyncio.Task[None]]] = {}
        self._choices = Choices(setting.families, setting.known)
        self._uids: dict[str, str | None] = {}
        """The chosen addresses of Services that are endpoints."""
        self._made: dict[ObjectKey, _EndpointMade] = {}
        self._pace = Pace(LOOKS_PER_SECOND, burst=10)
        self._tasks: asyncio.TaskGroup | None = None
        self._again = asyncio.Event()

    async def run(self) -> None:
        self._hosts, self._read = {}, None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._secret = self._secrets.take(self._secret_key, self._again.set)
                while True:
                    self._look()
                    # A server whose address was refused may be outside this cluster by now.
                    waits = [LOOK_AGAIN_SECONDS] if self._config_problem else []
                    waits += [] if (due := self._choices.due) is None else [due]
                    try:
                        async with asyncio.timeout(min(waits, default=None)):
                            await self._again.wait()
                    except TimeoutError:
                        self._read, self._made = None, {}
                    await self._pace.turn()
                    self._again.clear()
        finally:
            self._let_go()
            if self._secret is not None:
                self._secrets.give_back(self._secret_key, self._again.set)
                self._secret = None

    def set_ports(self, ports: Sequence[ExternalServicePort]) -> None:
        super().set_ports(ports)
        self._look_anew()

    def set_failing(self, addresses: Mapping[str, str]) -> None:
        self._choices.failing = addresses
        self._look_anew()

    def gate_changed(self) -> None:
        self._read = None
        self._again.set()

    def _look_anew(self) -> None:
        self._made = {}
        self._again.set()

    # --- from the Secret to a watch ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Act on whatever has changed."""
        assert self._secret is not None
        secret = self._secret.secret
        if secret is None:
            self._read = None
            if self._secret.problem is not None:
                self._let_go()
        else:
            version = secret.metadata.uid, secret.metadata.resource_version
            if version != self._read:
                self._read = version
                found = self._secret.once(_kubeconfig)
                wrong = found if isinstance(found, str) else found.refusal(self._gate())
                if isinstance(found, Kubeconfig) and wrong is None:
                    self._follow(found.config)
                    self._config_problem = None
                else:
                    self._let_go()
                    last, what = self._config_problem, _cut(wrong or "")
                    if last is None or last.message != what:
                        self._config_problem = Problem("KubeconfigRefused", what, self.setting.now())
        self._publish()

    def _follow(self, config: Config) -> None:
        selected = SelectedServices(
            self._secret_key.namespace, config, self._spec.namespace, selectors.text(self._spec.selector)
        )
        if selected != self._selected:
            self._let_go()
            self._balancers = self._clusters.take(selected, self._again.set)
            self._selected = selected

    def _let_go(self) -> None:
        if self._selected is not None:
            self._clusters.give_back(self._selected, self._again.set)
            self._selected = self._balancers = None

    # --- from a watch to endpoints --------------------------------------------------------------------------------

    def _publish(self) -> None:
        assert self._secret is not None
        trouble = self._balancers.trouble if self._balancers else None
        problem = self._secret.problem or self._config_problem or (self._problem(trouble) if trouble else None)
        services = self._balancers.services if self._balancers else None
        if services is None:
            self.become(State(self.state.endpoints, problem, self.state.notes))
            return
        used = {key: each for key, each in sorted(services.items()) if each.spec.type == "LoadBalancer"}
        self._follow_hosts({host for service in used.values() for host in _hosts(service)})
        self._made = {key: self._make(key, service) for key, service in used.items()}
        endpoints = tuple(made.found for made in self._made.values() if made.found)
        notes = [note for made in self._made.values() for note in made.notes] if used else [self._none()]
        self._choices.take({each.name: each.address for each in endpoints})
        self._uids = {made.found.name: made.service.metadata.uid for made in self._made.values() if made.found}
        self.become(State(endpoints, problem or self._host_problem(), tuple(notes)))

    def _make(self, key: ObjectKey, service: Service) -> _EndpointMade:
        name = service.metadata.name
        answers = tuple(self._hosts[host][0].answer for host in _hosts(service) if host in self._hosts)
        last = self._made.get(key)
        if last is not None and last.service is service and last.answers == answers:
            return last
        if not LABEL.fullmatch(name):
            return _EndpointMade(
                service, answers, None, [f"Service {show(name)} is left out: an endpoint's name is a DNS label"]
            )
        notes: list[str] = []
        address = self._address(service, notes)
        if address is None:
            return _EndpointMade(service, answers, None, notes)
        leaving = service.metadata.deletion_timestamp is not None
        if leaving:
            notes.append(f"{self._where(service)} is being deleted: its endpoint takes no new clients")
        found = Found(name, address, leaving=leaving, zone=self._spec.zone or "")
        return _EndpointMade(service, answers, found, [*notes, *self._port_notes(service)])

    def _address(self, service: Service, notes: list[str]) -> str | None:
        """The address of this Service; None, and a note, if it has none."""
        where = self._where(service)
        name = service.metadata.name
        candidates: list[str] = []
        nameless: list[str] = []
        waiting = False
        ingress = _ingress(service)
        for entry in ingress:
            if entry.ip:
                # What is an address, but not one that an endpoint may have, is the gate's to refuse.
                if address := as_kubernetes_reads(entry.ip):
                    candidates.append(address)
                else:
                    notes.append(f"{where}: {show(entry.ip)}, its load balancer's address, is not an IP address")
            elif entry.hostname and entry.hostname in self._hosts:
                answer = self._hosts[entry.hostname][0].answer
                if answer is None:
                    waiting = True
                elif answer.addresses:
                    candidates += answer.addresses
                else:
                    nameless.append(show(entry.hostname))
        chosen = self._choices.of(name, candidates)
        if chosen is not None or waiting:
            return chosen or self._choices.current.get(name)
        if candidates:
            notes.append(f"{where} has no {' or '.join(self.setting.families)} address")
        elif nameless:
            notes.append(f"{where}: {', '.join(nameless)}, its load balancer's host name, has no address")
        elif not ingress:
            return self._kept(service, notes)
        return None

    def _kept(self, service: Service, notes: list[str]) -> str | None:
        """The address to use for a Service whose status has none.

        A tool may clear a status by mistake while the load balancer goes on. But the status of a Service that is
        being deleted is cleared because the load balancer is gone, and one that was created again has another load
        balancer.
        """
        where, name, uid = self._where(service), service.metadata.name, service.metadata.uid
        current = self._choices.current.get(name) if self._uids.get(name, uid) == uid else None
        if current is None or service.metadata.deletion_timestamp is not None:
            notes.append(f"{where} has no load-balancer address {'yet' if current is None else 'any more'}")
            return None
        if self._choices.fails(name):
            notes.append(f"{where} has no load-balancer address any more, and {current} fails its checks")
            return None
        notes.append(f"{where} has no load-balancer address any more: {current} stays until it fails its checks")
        return current

    def _none(self) -> str:
        """The note about a cluster that has no Service to follow."""
        selector = selectors.text(self._spec.selector)
        which = f" matches {show(selector)}" if selector else " is there"
        return f"no Service of type LoadBalancer in namespace {self._spec.namespace} of the other cluster{which}"

    def _where(self, service: Service) -> str:
        return f"Service {self._spec.namespace}/{service.metadata.name}"

    def _port_notes(self, service: Service) -> Iterator[str]:
        """At most one note about ports that are not served, and one about errors of the load balancer."""
        wanted = {(port.protocol, port.target_port or port.port) for port in self.setting.ports}
        errors = {
            f"{port['protocol']} {port['port']}: {show(port['error'])}"
            for entry in _ingress(service)
            for port in entry.ports or ()
            if (port["protocol"], port["port"]) in wanted
        }
        if errors:
            told = ", ".join(sorted(errors)[:MAX_PORTS_NAMED])
            yield f"{self._where(service)}: its load balancer has an error ({told}); the health check decides"
        served = {(port.protocol, port.port) for port in service.spec.ports or ()}
        if missing := wanted - served:
            there = _few(served) or "no port"
            yield f"{self._where(service)} does not serve {_few(missing)}, it serves {there}; change targetPort"

    # --- host names ------------------------------------------------------------------------------------------------

    def _follow_hosts(self, hosts: set[str]) -> None:
        assert self._tasks is not None
        hosts = set(sorted(hosts)[:MAX_ENDPOINTS])
        for gone in self._hosts.keys() - hosts:
            self._hosts.pop(gone)[1].cancel()
        for host in sorted(hosts - self._hosts.keys()):
            following = RepeatedLookup(
                lambda host=host: self._look_up(host),  # type: ignore[misc]
                self._again.set,
                now=self.setting.now,
                jitter=self.setting.jitter,
            )
            self._hosts[host] = following, self._tasks.create_task(following.run())

    async def _look_up(self, host: str) -> tuple[Addresses, float]:
        found = await addresses_of(self._names, host, self.setting.families)
        found = found._replace(addresses=found.addresses[:MAX_ADDRESSES])
        return found, max(found.ttl, len(self._hosts) / MAX_LOOKUPS_PER_SECOND)

    def _host_problem(self) -> Problem | None:
        failures = [following.failure for following, _ in self._hosts.values() if following.failure]
        return Problem("LookupFailed", *min(failures, key=lambda each: each.since)) if failures else None

    # --- what to do ------------------------------------------------------------------------------------------------

    def _problem(self, trouble: Trouble) -> Problem:
        secret = f"{self._secret_key.namespace}/{self._secret_key.name}"
        error = trouble.error
        what = _cut(one_line(str(error)))
        match error:
            case ApiError(status=401):
                reason = "KubeconfigRejected"
                what = (
                    f"the other cluster does not accept the credentials in Secret {secret} ({what}); they may have "
                    f"expired: make a new kubeconfig and put it there"
                )
            case ApiError(status=403):
                reason = "ClusterForbids"
                what = (
                    f"the other cluster does not let the user of Secret {secret} get, list and watch services in "
                    f"namespace {self._spec.namespace} ({what}); bind a Role for that there"
                )
            case ApiError():
                reason, what = "ClusterRefused", f"the other cluster refuses to list its services: {what}"
            case NoRoomError():
                reason = "TooMuchAtOnce"
            case TooManyClustersError():
                reason = "TooManyClusters"
            case _:
                reason, what = "ClusterUnreachable", f"the other cluster cannot be read: {what}"
        return Problem(reason, what, trouble.since)


def _kubeconfig(secret: Secret, key: str) -> Kubeconfig | str:
    """The kubeconfig in this key of the Secret, or what is wrong with it."""
    try:
        return read_kubeconfig(secret, key)
    except MoorageError as error:
        return str(error)


def _ingress(service: Service) -> list[LoadBalancerIngress]:
    balancer = service.status.load_balancer
    return (balancer and balancer.ingress) or []


def _hosts(service: Service) -> Iterator[str]:
    return (each.hostname for each in _ingress(service) if each.hostname and not each.ip)


def _few(ports: set[tuple[str, int]]) -> str:
    named = ", ".join(f"{protocol} {number}" for protocol, number in sorted(ports)[:MAX_PORTS_NAMED])
    return f"{named} and {len(ports) - MAX_PORTS_NAMED} more" if len(ports) > MAX_PORTS_NAMED else named


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else f"{text[:MAX_MESSAGE_CHARACTERS]}..."

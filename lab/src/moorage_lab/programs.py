"""The processes of a lab cluster and their command lines. Pure."""

from pathlib import Path

from moorage_lab.control import DNS_HOSTS, DNS_PID
from moorage_lab.forking import FIRST_DESCRIPTOR, OWN, Program
from moorage_lab.state import zone_file
from moorage_lab.topology import API_PORT, INTERNET_DNS, ClusterPlan, LabPlan, internet_addresses

FIRST_API_PORT = 16443
"""On the machine, for the first cluster's API server; others take the next free ports."""

API_SERVER, CONTROL = "apiserver", "control"


class Files:
    """Where the processes of one cluster keep and find files; paths inside the lab."""

    def __init__(self, run: Path, state: Path, cluster: str) -> None:
        self.directory = run / cluster
        """lab-control's state, which goes with the lab."""
        self.plan = self.directory / "plan.json"
        self.inside = self.directory / "kubeconfig"
        """Kubeconfig with the gateway's public address, which every network namespace reaches."""
        self.outside = self.directory / "outside.kubeconfig"
        """Kubeconfig with the socket on the machine."""
        self.logs = state / "logs" / cluster
        self.dns_hosts = self.directory / DNS_HOSTS
        self.dns_pid = self.directory / DNS_PID


def server_url(cluster: ClusterPlan) -> str:
    """The URL of the API server that works in every network namespace of the lab."""
    return f"https://{cluster.public_addresses[0]}:{API_PORT}"


def api_server(cluster: ClusterPlan, files: Files, listener: int, outside_port: int) -> Program:
    """The API server; `listener` is the socket that listens on the machine, on `outside_port`."""
    argv = [OWN, "lab-apiserver", "--cluster", cluster.name, "--directory", str(files.directory / "api")]
    for address in (*cluster.public_addresses, *cluster.gateway_addresses):
        argv += ["--address", address]
    argv += ["--port", str(API_PORT), "--socket-fd", str(FIRST_DESCRIPTOR)]
    for service_range in cluster.service_ranges:
        argv += ["--service-range", service_range]
    argv += ["--kubeconfig", str(files.outside), f"https://127.0.0.1:{outside_port}"]
    argv += ["--kubeconfig", str(files.inside), server_url(cluster)]
    return Program(API_SERVER, argv, cluster.gateway, listener)


def name_server(lab: LabPlan, state: Path) -> Program:
    """The internet's name server, for the names that people add. `state`: the lab's directory, as a path inside."""
    argv = [OWN, "lab-names", "--zone", str(zone_file(state))]
    for address in internet_addresses(lab):
        argv += ["--address", address]
    return Program("names", argv, "")


def others(cluster: ClusterPlan, files: Files) -> list[Program]:
    """All others, which need the API server's kubeconfig: DNS, an agent per node, operator, controllers, kubelets."""
    return [_dns(cluster, files), *_agents(cluster, files), control(cluster, files), _operator(cluster, files)]


def control(cluster: ClusterPlan, files: Files) -> Program:
    """Controllers and kubelets: the process that runs the pods."""
    argv = [OWN, "lab-control", "--kubeconfig", str(files.inside), "--cluster", cluster.name]
    argv += ["--state", str(files.directory), "--topology", str(files.plan)]
    return Program(CONTROL, argv, cluster.gateway)


def _agents(cluster: ClusterPlan, files: Files) -> list[Program]:
    common = [OWN, "node", "--kubeconfig", str(files.inside), "--services", "all"]
    agents = [Program(f"agent-{node.name}", [*common, "--node", node.name], node.netns) for node in cluster.nodes]
    balancer = [*common, "--node", "gateway", "--addresses", "load-balancer"]
    return [*agents, Program("agent-gateway", balancer, cluster.gateway)]


def _operator(cluster: ClusterPlan, files: Files) -> Program:
    # It is the only one, and after a restart it would wait for the Lease of its predecessor.
    argv = [OWN, "operator", "--kubeconfig", str(files.inside), "--no-leader-election"]
    # From the gateway it reaches load balancers and other clusters' API servers, as any pod does.
    return Program("operator", [*argv, "--listen", "127.0.0.1:8080"], cluster.gateway)


def _dns(cluster: ClusterPlan, files: Files) -> Program:
    argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-"]
    argv += [f"--listen-address={address}" for address in cluster.dns_addresses]
    argv += ["--bind-interfaces", f"--pid-file={files.dns_pid}"]
    # Otherwise it would change to a user that does not exist in the lab's user namespace.
    argv += ["--user=root", "--group="]
    # The records of this cluster; like CoreDNS, it asks the internet's name server for all other names.
    argv += ["--no-hosts", f"--addn-hosts={files.dns_hosts}", "--no-resolv", f"--server={INTERNET_DNS}"]
    argv += [f"--local=/{cluster.domain}/", "--local-ttl=1", "--no-negcache"]
    return Program("dns", argv, cluster.gateway)

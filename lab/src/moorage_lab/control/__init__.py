"""What the lab plays of Kubernetes' control plane and kubelet, for one cluster.

Each controller is a pure function from listed objects to what should be (`deployments`, `scheduling`, `slices`,
`mirroring`, `loadbalancers`, `dns`, `nodes`, `podstatus`); `manager` and `kubelet` are the loops around them, and
`runtime` starts the pods' processes.
"""

DNS_HOSTS = "dns/hosts"
"""The hosts file of the cluster's dnsmasq, under the state directory: one `ADDRESS NAME` a line."""

DNS_PID = "dns/dnsmasq.pid"
"""The pid file of the cluster's dnsmasq, under the state directory; absent while none runs."""

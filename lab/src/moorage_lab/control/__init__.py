"""Plays the parts of Kubernetes' control plane and kubelet that the lab needs, for one cluster.

Each controller is a pure function from listed objects to what should be (`deployments`, `statefulsets`, `scheduling`,
`slices`, `mirroring`, `loadbalancers`, `dns`, `nodes`, `podstatus`); `manager` and `kubelet` are the loops around
them, and `runtime` starts the pods' processes.
"""

DNS_HOSTS = "dns/hosts"
"""The hosts file of the cluster's dnsmasq, in the state directory: one `ADDRESS NAME` per line."""

DNS_PID = "dns/dnsmasq.pid"
"""The pid file of the cluster's dnsmasq, in the state directory; absent while none runs."""

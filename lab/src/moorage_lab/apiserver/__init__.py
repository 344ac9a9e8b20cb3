"""A small Kubernetes API server in memory, for the lab's agents, `kubectl` and the tests.

It speaks Kubernetes' REST paths for the kinds of `moorage.api.kinds.KINDS`, closely enough that `kubectl` and
clients for a real server do not notice a difference in what they do with these kinds.

Why we wrote our own: kmock, the one well-kept Python library that comes near (a Kubernetes emulator on
aiohttp), says of itself that it stores objects "as is": no resource versions to conflict on, no list merging, no
server-side apply, no defaults, no ClusterIPs, no history to resume a watch from. Those are what this package is
about. Others (mockernetes) patch one client library instead of speaking HTTP.

How it is laid out. Pure functions over plain dicts: `status` (errors), `selectors`, `schema` (how lists merge),
`patches`, `strategic`, `fields` and `apply` (server-side apply), `defaults`, `tables`, `discovery`, `openapi`,
`addresses`. State: `store` (objects, resource versions, history) and `registry` (what one write means; with
`deletion`, both over `writer`). I/O: `handlers` and `watch` (HTTP), `server` (sockets, TLS), `credentials`
(certificates, kubeconfig), `faults` (for tests). Requests are handled on one event loop and a write never awaits,
so every write is atomic.
"""

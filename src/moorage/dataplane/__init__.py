"""The data plane of a node: what it should do for its Services, as one constant nftables ruleset.

`services` turns Kubernetes objects into plain data (`model`). `schema` describes the table, `ruleset` has its rules,
`units` says which elements each unit of that data has, and `changes` cuts differences into transactions; all of these
are pure. `sync` carries them out through `nft` and `conntrack`, which both have a fake with the same interface.
`elements` reads and corrects over netlink what rules learned. `reading` says what the kernel has, and `audit` what is
wrong with it.
"""

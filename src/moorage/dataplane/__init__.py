"""Services to packets: what a node should do for its Services, as one constant nftables ruleset.

`services` turns Kubernetes objects into plain data (`model`), `slots` and `ruleset` turn that into elements and
rules, `changes` cuts the difference into transactions; all of these are pure. `sync` carries them out through
`nft` and `conntrack`, each of which has a fake behind the same interface.
"""

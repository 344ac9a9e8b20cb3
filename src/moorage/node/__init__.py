"""The node agent: one per node, turns what the API says into nftables, and decides nothing."""

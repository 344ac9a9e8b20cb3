"""The node agent: one per node; turns Services and EndpointSlices into nftables, and decides nothing."""

"""Programs that the measurement runs, each a process of its own: `python -m bench.hostile.servers.NAME ...`."""

"""What a process tells of itself over HTTP: alive, ready, metrics. Shared by the operator and the node agents."""

"""Many node agents at one API server: the table "agents".

`things` is what they read, `simulated` are agents without kernels, `measuring` runs it all beside one real agent,
`table` writes down what came of it.
"""

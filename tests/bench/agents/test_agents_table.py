from bench.agents.measuring import Change, Measured, Options, Result
from bench.agents.table import agents_table

ALONE = Measured(
    server_core=0.02,
    server_kib=400 * 1024,
    agent_core=0.001,
    agent_kib=60 * 1024,
    slices=Change(0.002, 0.02, [0.0]),
    moorings=Change(0.001, 0.01, [0.0]),
)
TOGETHER = Measured(
    server_core=0.3,
    server_kib=900 * 1024,
    agent_core=0.0012,
    agent_kib=61 * 1024,
    slices=Change(0.05, 0.021, [0.1, 0.2, 0.9]),
    moorings=Change(0.04, 0.011, [0.3, 0.1, 0.2]),
)


def test_one_agent_stands_beside_many() -> None:
    table = agents_table(Options(1_000, 50, 60, 20), Result(ALONE, TOGETHER))
    assert table.columns == ("", "one agent", "1,001 agents")
    assert [row.cells for row in table.rows] == [
        ("API server with etcd at rest: of a processor", "2.0 %", "30.0 %"),
        ("  most memory", "400 MiB", "900 MiB"),
        ("a real agent at rest: of a processor", "0.1 %", "0.1 %"),
        ("  most memory", "60 MiB", "61 MiB"),
        ("an EndpointSlice changes: API server's processor time", "2 ms", "50 ms"),
        ("  the real agent's", "20 ms", "21 ms"),
        ("  until the last agent has it: median, worst", "", "200 ms, 900 ms"),
        ("a client moves: API server's processor time", "1 ms", "40 ms"),
        ("  the real agent's", "10 ms", "11 ms"),
        ("  until the last agent has it: median, worst", "", "200 ms, 300 ms"),
    ]

"""How `make e2e` divides its tests between two processes."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COLLECT = """
import json, pytest

class Collected:
    def pytest_xdist_node_collection_finished(self, node, ids):
        print("\\nids", json.dumps(ids))

pytest.main("--setup-plan --numprocesses 1 --dist loadgroup -p no:cacheprovider".split() + [
    "e2e/test_seed.py", "e2e/test_sources.py",
], plugins=[Collected()])
"""


def test_one_has_all_that_need_whole_clusters_and_the_other_all_the_rest() -> None:
    """xdist gives tests of one group to one process. Of tests in no group it would give each process some."""
    said = subprocess.run(
        [sys.executable, "-c", _COLLECT],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (ids,) = (json.loads(line.removeprefix("ids ")) for line in said.splitlines() if line.startswith("ids "))
    groups: dict[str, set[str]] = {}
    for each in ids:
        module, _, rest = each.partition("::")
        groups.setdefault(module, set()).add(rest.rpartition("@")[2])
    assert groups == {"e2e/test_seed.py": {"clusters"}, "e2e/test_sources.py": {"api"}}

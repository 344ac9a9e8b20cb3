"""The lab's API server, with the kubectl of the newest Kubernetes."""

import os
import subprocess
import sys
from pathlib import Path

from e2e.harness import builds

ROOT = Path(__file__).parents[1]


def test_the_tests_that_need_kubectl_pass_with_the_one_that_is_built() -> None:
    """They are skipped on machines without."""
    path = f"{builds.program('kubectl').parent}:{os.environ['PATH']}"
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/lab/apiserver/test_kubectl.py"]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout

"""The image of the pods of Kubernetes' own end-to-end specs, made without a registry.

`python -m e2e.harness.agnhost` makes it and prints its archive.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from e2e.harness import builds, caches, image

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
"""The name under which the specs ask for it."""
_DOCKERFILE = Path(__file__).parents[1] / "binaries" / builds.SPECS / "Dockerfile"


def archive() -> Path:
    """A docker-archive of it, from the cache or built. Raises HarnessError."""
    inputs = (_DOCKERFILE, builds.program("agnhost", builds.SPECS))

    def make(directory: Path) -> None:
        print("e2e: building the image of agnhost", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="agnhost-", dir=caches.directory()) as context:
            for path in inputs:
                shutil.copy(path, context)
            image.build_from(Path(context), AGNHOST, directory / "image.tar")

    return caches.made(f"agnhost-image-{caches.key(*caches.contents(*inputs), AGNHOST)}", make) / "image.tar"


if __name__ == "__main__":
    print(archive())

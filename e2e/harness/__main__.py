"""`python -m e2e.harness prepare | up | down`.

Build what the tests need; try the clusters by hand; remove what a killed run left.
"""

import signal
import sys

from e2e.harness import builds, clusters, image, pause, played, runs, world
from e2e.harness.errors import HarnessError


def main(arguments: list[str]) -> int:
    match arguments:
        case ["prepare"]:
            if clusters.existing() is None:
                world.need_root()
            builds.built(builds.KUBERNETES)
            builds.built(builds.OLDEST_KUBERNETES)
            if clusters.existing() is None:
                builds.built("coredns")
                pause.archive()
                image.build()
        case ["up"]:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with played.clusters() as both:
                print("Clusters are up until Ctrl-C. In another terminal, for instance:")
                print(f"  {' '.join(both.a.command('get', 'nodes'))}")
                print(f"  {' '.join(both.b.command('get', 'nodes'))}")
                print(f"  {' '.join(both.world.joining('internet'))} curl ADDRESS", flush=True)
                signal.pause()
        case ["down"]:
            for name in runs.clean():
                print(f"e2e: removed what {name} left")
        case _:
            print("usage: python -m e2e.harness prepare | up | down", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HarnessError as error:
        sys.exit(f"e2e: {error}")
    except KeyboardInterrupt:
        pass

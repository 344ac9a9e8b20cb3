"""Measures speed and size: `make bench`, or `python -m bench --help`. No part of the package that is installed."""

from pathlib import Path

BUILD = Path(__file__).parents[1] / "build" / "bench"
"""Where make puts the compiled programs."""

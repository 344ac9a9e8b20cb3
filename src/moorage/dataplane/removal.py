"""How a kernel gets rid of all that Moorage has programmed."""

from moorage.dataplane.schema import TABLE

REMOVAL = f"add table {TABLE}\ndelete table {TABLE}\n"
"""A script for nft, right whether the table is there or not. Flows stay: the kernel keeps where each leads to."""

"""`batch/v1`: whose a Job is."""

from moorage.api.meta import Object


class Job(Object, kw_only=True, frozen=True):
    """Its metadata only."""

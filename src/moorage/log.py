"""Sets up logging: structlog, also for the standard library's loggers (asyncio, aiohttp).

Records go to standard error, so that standard output is free for what a command prints. A terminal gets coloured
columns, anything else logfmt or JSON lines.
"""

import logging
import sys
from typing import NamedTuple, cast

# Where rich is installed, as with the lab, structlog imports it for tracebacks that nobody here asks for: a third of
# the time that a process takes to start. A module that is None cannot be imported.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
from structlog.typing import FilteringBoundLogger, Processor  # noqa: E402

del sys.modules["rich"]
if _rich:
    sys.modules["rich"] = _rich

LEVELS = ("debug", "info", "warning", "error")
"""The levels that `configure` takes, the most talkative first."""


class Chosen(NamedTuple):
    """The arguments of the last call of `configure`."""

    level: str
    json: bool


_chosen = Chosen("info", False)


def chosen() -> Chosen:
    """The set-up, for child processes."""
    return _chosen


def configure(level: str = "info", json: bool = False) -> None:
    """Send records of `level` and above to standard error; calling it again replaces the set-up.

    Each record carries `timestamp` (RFC 3339, UTC, microseconds), `level`, `event`, and the keys of its logger. With
    `json` it is one JSON object a line, also at a terminal. Raises ValueError for a level that is not in `LEVELS`.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}; must be one of {', '.join(LEVELS)}")
    global _chosen
    _chosen = Chosen(level, json)
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(json=json, terminal=sys.stderr.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str, **values: object) -> FilteringBoundLogger:
    """A logger whose records carry `logger=name` and `values`. It may be made before `configure` is called."""
    return cast("FilteringBoundLogger", structlog.get_logger(name, **values))


def _renderers(*, json: bool, terminal: bool) -> list[Processor]:
    if json:
        # Local variables may hold a token.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer(default=str)]
    if terminal:
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event", "logger"], drop_missing=True, bool_as_flag=False
        ),
    ]

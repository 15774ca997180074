"""Portway's own log: structlog, one line per cause, JSON or for people.

Fixed phrases with keys; secrets have types whose text is redacted, so none can slip in as a value. Standard library
loggers (aiohttp, asyncio, grpc) go the same way.
"""

import logging
import os
import sys
from typing import TextIO

import structlog

EVENT_WIDTH = 24
"""Of the fixed phrase in the log for people; longer ones push their keys to the right."""


def set_up_logs(level_name: str, log_format: str, stream: TextIO = sys.stderr) -> None:
    """Send all logging to `stream`; called once, by the command.

    Args:
        level_name: debug, info, warning or error.
        log_format: `json`, `human`, or `auto`: human if the stream is a terminal.
    """
    human = log_format == "human" or (log_format == "auto" and stream.isatty())
    level = logging.getLevelName(level_name.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        # A person at a terminal wants the time of day, a machine all of it.
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        if human
        else structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                EVENT_WIDTH,
                colors=stream.isatty() and not os.environ.get("NO_COLOR"),
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if human
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)

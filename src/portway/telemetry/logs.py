"""Portway's own log: structlog, one line per cause, JSON or for people.

Fixed phrases with keys; secrets have types whose text is redacted, so none can slip in as a value. Standard library
loggers (aiohttp, asyncio, grpc) go the same way. Who reads the log, or does not, holds up nobody (`background.py`).
"""

import logging
import os
from typing import TextIO, final

import msgspec
import structlog

from portway.telemetry.background import BackgroundWriter, background_writer

EVENT_WIDTH = 24
"""Of the fixed phrase in the log for people; longer ones push their keys to the right."""


@final
class _Handler(logging.Handler):
    def __init__(self, writer: BackgroundWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except Exception:  # noqa: BLE001 - as logging's own handlers: a record that cannot be shown ends nothing
            self.handleError(record)


def set_up_logs(level_name: str, log_format: str, stream: TextIO | None) -> BackgroundWriter:
    """Send all logging to `stream`; called once, by the command.

    Args:
        level_name: debug, info, warning or error.
        log_format: `json`, `human`, or `auto`: human if the stream is a terminal.
        stream: standard error; `None`: it is closed.

    Returns:
        What writes to the stream from now on, for whoever wants lines of his own in between.
    """
    is_terminal = stream is not None and stream.isatty()
    human = log_format == "human" or (log_format == "auto" and is_terminal)
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
                colors=is_terminal and not os.environ.get("NO_COLOR"),
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
    writer = background_writer(stream, lambda count: _apology(count, human=human))
    handler = _Handler(writer)
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
    return writer


def _apology(count: int, *, human: bool) -> bytes:
    event = f"{count} log records were left out: nobody read them"
    return f"{event}\n".encode() if human else msgspec.json.encode({"event": event, "level": "warning"}) + b"\n"

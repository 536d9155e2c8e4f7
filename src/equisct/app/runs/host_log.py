"""`logs/hostN.log`: what process N of a run notes about itself, in plain text with times in UTC, rotated by size."""

import logging
import logging.handlers
import pathlib
import time

from ..tracking import redact

MOST_BYTES, OLDER_FILES = 1 << 20, 3


class _Quiet(logging.handlers.RotatingFileHandler):
    """A full disk ends no run, and is told elsewhere."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record


class HostLog:
    """Lines for a file of at most 1 MiB, with three older ones beside it (`host0.log.1` and so on).

    Args:
        folder: of the run.
        process: number of this process.
    """

    def __init__(self, folder: pathlib.Path, process: int):
        path = folder / "logs" / f"host{process}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = _Quiet(path, maxBytes=MOST_BYTES, backupCount=OLDER_FILES, encoding="utf-8", delay=True)
        formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self._handler.setFormatter(formatter)

    def write(self, text: str) -> None:
        """Appends one line, secrets blotted out and line breaks escaped."""
        line = redact(text).replace("\n", "\\n")
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        """Ends the file."""
        self._handler.close()

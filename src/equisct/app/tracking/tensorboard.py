"""TensorBoard's files through tensorboardX, without TensorFlow or torch.

Written with tensorboardX's records and summaries, not its `SummaryWriter`: that one names files after the host, names
two of one second alike, and flushes while rows wait in its queue.
"""

import importlib
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from .protocol import Values, flat_numbers


class TensorBoard:
    """A tracker that writes scalars and pictures into `folder/tb`; lists become `name/bin_0`, `name/bin_1`...

    Each start opens a new file, numbered. Its first record tells the reader to forget everything from `step + 1` on (at
    step 0: everything), so that nothing appears twice. Unknown and non-finite values are left out.
    """

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, folder: pathlib.Path, config: Mapping[str, Any], step: int) -> None:
        """Opens the next file and marks where the run goes on.

        Raises:
            ValueError: tensorboardX is not installed.
        """
        try:
            self._proto = importlib.import_module("tensorboardX.proto.event_pb2")
            self._summary = importlib.import_module("tensorboardX.summary")
            records = importlib.import_module("tensorboardX.record_writer")
        except ImportError as error:
            hint = "pip install tensorboardx"
            raise ValueError(f"TensorBoard: expected tensorboardX to be installed, found none ({hint})") from error
        (folder / "tb").mkdir(exist_ok=True)
        used = [path.suffix[1:] for path in (folder / "tb").glob("events.out.tfevents.*")]
        number = 1 + max((int(suffix) for suffix in used if suffix.isdigit()), default=0)
        self._writer = records.RecordWriter(str(folder / "tb" / f"events.out.tfevents.{number:06d}"))
        self._write(file_version="brain.Event:2")
        restart = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write(step=step + 1 if step else 0, session_log=restart)
        self._writer.flush()

    def log(self, step: int, values: Values) -> None:
        """Writes one scalar per number."""
        for name, value in flat_numbers(values).items():
            self._write(step=step, summary=self._summary.scalar(name, value))

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes one picture."""
        self._write(step=step, summary=self._summary.image(name, picture, dataformats="HWC"))

    def flush(self) -> None:
        """Syncs the file to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file; harmless if it is not open."""
        if self._writer is not None:
            self._writer.flush()
            self._writer.close()
            self._writer = None

    def _write(self, **fields: Any) -> None:
        if self._writer is None:
            raise ValueError("TensorBoard: expected start() to come first, found it not open")
        self._writer.write(self._proto.Event(wall_time=time.time(), **fields).SerializeToString())

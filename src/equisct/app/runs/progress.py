"""What a person sees of a running loop: a bar on a terminal, a plain line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from ..tracking import redact


def say(text: str) -> None:
    """Prints a line on standard error, above the bar if there is one; goes on where nobody can read it any more."""
    with contextlib.suppress(OSError):  # a full disk, or a terminal or reader that has gone
        tqdm.write(redact(text), file=sys.stderr)
        sys.stderr.flush()


@contextlib.contextmanager
def telling(doing: str, *, aloud: bool = True) -> Iterator[Callable[[str], None]]:
    """Says what is being done while a person waits for it; then what was found, and how long it took.

    Gives the function that takes what was found. Not `aloud`, it says nothing: in all processes but one.
    """
    tell = say if aloud else lambda text: None
    begin, found = time.monotonic(), []
    tell(f"{doing} ...")
    yield found.append
    tell(f"{doing}: {', '.join([*found, f'{time.monotonic() - begin:.1f} s'])}")


class Bar:
    """A tqdm bar on standard error."""

    def __init__(self, total: int, start: int = 0):
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, smoothing=0.05)

    def update(self, step: int, loss: float | None, rate: float) -> None:
        """Moves the bar to `step`; shows the latest known loss, and images per second."""
        text = "" if loss is None else f"loss {loss:.4f}, {rate:,.0f} images/s"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the bar's last state on the screen."""
        self._bar.close()


class Lines:
    """A line at most every ten seconds on standard error, without control characters."""

    def __init__(self, total: int, every: float = 10.0):
        self._total, self._every = total, every
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def update(self, step: int, loss: float | None, rate: float) -> None:
        """Prints a line of the same if the last is long enough ago."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._start = step, now
        if step < self._total and now - self._last < self._every:
            return
        self._last = now
        done = max(step - self._first, 1)
        eta = (now - self._start) / done * (self._total - step)
        text = "" if loss is None else f", loss {loss:.4f}, {rate:,.0f} images/s"
        left = f", ETA {_clock(eta)}" if step > self._first else ""
        say(f"step {step}/{self._total}{text}{left}")

    def close(self) -> None:
        """Nothing to end."""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def open_progress(total: int, start: int = 0) -> Bar | Lines:
    """A bar on a terminal, plain lines elsewhere; for a run of `total` updates of which `start` are done."""
    return Bar(total, start) if sys.stderr.isatty() else Lines(total)

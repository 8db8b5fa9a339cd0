# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What people see of long work: one moving line at a terminal, one line per stage in the journal."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from .table import bytes_text, seconds_text

REDRAW_SECONDS = 0.2
# A rate of the last seconds: a stall shows at once, and one slow part does not make the end jump about.
WINDOW_SECONDS = 10.0


class Progress:
    """The stages of a run, one at a time; C(advance) may be called by several threads.

    @param out: where lines go; None = nowhere, as for C(--json)
    """

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.out, self.clock = out, clock
        self.live = out is not None and out.isatty()
        self.lock = threading.Lock()
        self.name = ""
        self.expected = self.count = 0
        self.begun = self.drawn = 0.0
        self.marks: list[tuple[float, int]] = []

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done(ok=error is None)

    def say(self, text: str) -> None:
        """A line that stays, above the moving one."""
        with self.lock:
            self._print(text)

    def stage(self, name: str, expected_bytes: int = 0) -> None:
        """Begins a stage, and ends the one before if nobody has.

        @param expected_bytes: about how many there will be; 0 = not known
        """
        self.done()
        with self.lock:
            self.name, self.expected, self.count = name, expected_bytes, 0
            self.begun = self.drawn = self.clock()
            self.marks = [(self.begun, 0)]
            self._draw()

    def advance(self, count: int) -> None:
        with self.lock:
            self.count += count
            now = self.clock()
            if self.live and self.name and now - self.drawn >= REDRAW_SECONDS:
                self.drawn = now
                self.marks.append((now, self.count))
                while now - self.marks[0][0] > WINDOW_SECONDS:
                    self.marks.pop(0)
                self._draw()

    def done(self, ok: bool = True) -> None:
        """Ends the stage with its line; without a stage, nothing."""
        with self.lock:
            if self.name:
                text, seconds = self.name, self.clock() - self.begun
                if not ok:
                    text += " failed"
                if self.count:
                    rate = f", {bytes_text(self.count / seconds)}/s" if seconds >= 1 else ""
                    text += f": {bytes_text(self.count)} in {seconds_text(seconds)}{rate}"
                self.name = ""
                self._print(text)

    def _print(self, text: str) -> None:
        if self.out:
            self.out.write(f"\r\033[K{text}\n" if self.live else f"{text}\n")
            self._draw()
            self.out.flush()

    def _draw(self) -> None:
        if not (self.live and self.name and self.out):
            return
        self.out.write(f"\r\033[K{self.line()[: shutil.get_terminal_size().columns - 1]}")
        self.out.flush()

    def line(self) -> str:
        """The moving line: what, how far, how fast, how long still."""
        parts = [f"{self.name}: {bytes_text(self.count)}"]
        (then, before), (now, count) = self.marks[0], self.marks[-1]
        rate = (count - before) / (now - then) if now > then else 0.0
        # What is expected is an estimate; past it, there is nothing to promise.
        known = self.expected > self.count
        if known:
            parts[0] += f" of about {bytes_text(self.expected)}"
        if rate:
            parts.append(f"{bytes_text(rate)}/s")
        if known and rate:
            parts.append(f"{seconds_text((self.expected - self.count) / rate)} left")
        return ", ".join(parts)

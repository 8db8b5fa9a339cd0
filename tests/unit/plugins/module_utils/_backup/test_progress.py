"""What people see of long work, with a clock of the test's own."""

from __future__ import annotations

import io
import threading

import pytest

from plugins.module_utils._backup.progress import Progress

MIB = 2**20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        """The lines as they stand there now."""
        return [line.rpartition("\r\033[K")[2] for line in self.getvalue().split("\n")]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(out, steps=20, each=MIB, seconds=0.1, expected=40 * MIB):
    clock = Clock()
    progress = Progress(out, clock)
    progress.stage("shop.dump", expected)
    for _ in range(steps):
        clock.now += seconds
        progress.advance(each)
    return progress


def test_a_terminal_has_one_moving_line():
    out = Terminal()
    progress = shown(out)
    assert out.screen == ["shop.dump: 20 MiB of about 40 MiB, 10 MiB/s, 2 s left"]
    progress.say("Trying again.")
    assert out.screen[0] == "Trying again."
    assert out.screen[1].startswith("shop.dump: 20 MiB")
    progress.done()
    assert out.screen[1:] == ["shop.dump: 20 MiB in 2 s, 10 MiB/s", ""]


def test_the_line_is_drawn_five_times_a_second_at_most():
    out = Terminal()
    shown(out, steps=10_000, each=1, seconds=0.001)
    assert 40 <= out.getvalue().count("\r") <= 51


def test_the_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    out = Terminal()
    shown(out)
    assert len(out.screen[-1]) < 30


def test_the_rate_is_that_of_the_last_seconds():
    """After a minute of nothing the remaining time is not that of the first, fast minute."""
    clock = Clock()
    progress = Progress(Terminal(), clock)
    progress.stage("shop.dump", 100 * MIB)
    for count in [10 * MIB] * 5 + [0] * 60 + [MIB] * 11:
        clock.now += 1
        progress.advance(count)
    assert progress.line().endswith("1.0 MiB/s, 39 s left")


def test_more_than_expected_promises_nothing():
    out = Terminal()
    shown(out, expected=MIB)
    assert out.screen == ["shop.dump: 20 MiB, 10 MiB/s"]


def test_the_journal_has_one_line_for_each_stage():
    out = io.StringIO()
    progress = shown(out)
    progress.stage("globals.sql")
    progress.done(ok=False)
    progress.done()
    assert out.getvalue().splitlines() == ["shop.dump: 20 MiB in 2 s, 10 MiB/s", "globals.sql failed"]


def test_a_stage_that_breaks_off_leaves_its_line():
    """So that the error after it begins a line of its own."""
    out = Terminal()
    with pytest.raises(OSError, match="disk"), shown(out):
        raise OSError("disk")
    assert out.screen == ["shop.dump failed: 20 MiB in 2 s, 10 MiB/s", ""]


def test_a_machine_hears_nothing():
    progress = shown(None)
    progress.say("Trying again.")
    progress.done()


def test_threads_lose_no_byte():
    progress = Progress(None)
    progress.stage("shop.dump")
    threads = [threading.Thread(target=lambda: [progress.advance(1) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.count == 8000

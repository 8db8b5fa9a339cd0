"""What people see of long work, with a clock of the test's own."""

from __future__ import annotations

import io
import threading

import pytest

from plugins.module_utils._backup.progress import Progress
from plugins.module_utils._backup.table import bytes_text, seconds_text, table

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
    assert out.screen == ["shop.dump: 20 MiB of about 40 MiB, 10 MiB/s, 2.0 s left"]
    progress.say("Trying again.")
    assert out.screen[0] == "Trying again."
    assert out.screen[1].startswith("shop.dump: 20 MiB")
    progress.done()
    assert out.screen[1:] == ["shop.dump: 20 MiB in 2.0 s, 10 MiB/s", ""]


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
    assert out.getvalue().splitlines() == ["shop.dump: 20 MiB in 2.0 s, 10 MiB/s", "globals.sql failed"]


def test_a_stage_that_breaks_off_leaves_its_line():
    """So that the error after it begins a line of its own."""
    out = Terminal()
    with pytest.raises(OSError, match="disk"), shown(out):
        raise OSError("disk")
    assert out.screen == ["shop.dump failed: 20 MiB in 2.0 s, 10 MiB/s", ""]


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


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1023, "1.0 KiB"), (10_200, "10 KiB"), (1_023_000, "999 KiB")),
        *((1_023_999, "1.0 MiB"), (107_000_000, "102 MiB"), (5 * 2**30, "5.0 GiB"), (10**18, "888 PiB")),
    ],
)
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.44, "0.4 s"), (41, "41 s"), (119, "119 s"), (121, "2 min"), (10_000, "3 h"), (777_777, "9 d")],
)
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


def test_table():
    rows = [["shop", "102 MiB", ""], ["media", "1.2 GiB", "never"]]
    assert table(["job", "size", "drill"], rows, right={"size"}) == [
        "job       size  drill",
        "shop   102 MiB",
        "media  1.2 GiB  never",
    ]
    assert table(["job", "size"], []) == ["job  size"]

"""Programs are run for real: what they say, how they end, and that nothing of them is left."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from plugins.module_utils._backup.commands import TAIL_BYTES, Process, last_lines, output
from plugins.module_utils._backup.errors import SourceError
from plugins.module_utils._backup.kinds import Command


def shell(script: str, **more: str) -> Command:
    return Command(("sh", "-c", script), **more)


def test_output_is_what_it_printed():
    assert output(shell("cat; echo $HOME"), "given ").startswith("given ")
    assert output(shell("exit 3"), ok_status=(0, 3)) == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (shell("echo no such table >&2; exit 4"), "exit status 4.*no such table"),
        (Command(("there-is-no-such-program",)), "is not installed on this host"),
        (Command(("true",), user="nobody-of-that-name"), "this host has no such user"),
        (Command(("/etc/passwd",)), "could not be started"),
    ],
)
def test_a_failure_is_one_sentence(command, words):
    with pytest.raises(SourceError, match=words):
        output(command)


def test_much_that_is_said_neither_stops_it_nor_fills_the_memory():
    process = Process(shell("yes complaint | head -c 300000 >&2; echo last >&2; exit 1"), stdout=subprocess.PIPE)
    assert process.wait() == 1
    assert len(process.tail) <= TAIL_BYTES
    assert process.failure().startswith("sh failed (exit status 1): ")
    assert process.failure().endswith("last")
    process.end()


def test_a_signal_is_named():
    process = Process(shell("kill -KILL $$"))
    assert process.failure() == "sh was ended by SIGKILL"
    process.end()


def test_it_is_ended_with_all_that_it_started():
    process = Process(shell("sleep 60 & echo $!; wait"), stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    process.end()
    stat = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 10
    # A zombie that nobody has taken note of yet has ended, too.
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_streams_that_were_not_asked_for_are_a_mistake():
    process = Process(shell("true"))
    for name in ("stdin", "stdout"):
        with pytest.raises(ValueError, match=name):
            getattr(process, name)
    process.end()


def test_last_lines_fit_on_one():
    assert last_lines("a\nb \n c\n", 2) == "b / c"

"""The harness itself: what it counts, what it shows, and that nothing can hang it."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from tests import run as harness


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "LOGS", tmp_path)
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    return tmp_path


def test_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "x.xml"
    report.write_text('<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>')
    assert harness.read_report(report) == harness.Tally(3, 3)
    report.write_text("<cut off")
    assert harness.read_report(report) == harness.Tally(0, 0)
    assert harness.read_report(tmp_path / "none.xml") == harness.Tally(0, 0)


def test_the_log_tells_why() -> None:
    noise = [f"line {n}" for n in range(100)]
    assert harness.telling(noise) == noise[-40:]
    shown = harness.telling([*noise, "fatal: [host]: the disk is full", *noise])
    assert "fatal: [host]: the disk is full" in shown
    assert len(shown) == 40
    assert harness.telling([]) == []


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w+")
    begun = time.monotonic()
    call = harness.Run("x", log, begun + 1)
    assert not call.call("sh", "-c", "sleep 60 & sleep 60", cwd=tmp_path)
    assert time.monotonic() - begun < 10
    log.seek(0)
    assert "The time limit ended this" in log.read()
    assert not harness.Run.processes


def test_exit_status_decides(tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w+")
    call = harness.Run("x", log, time.monotonic() + 30)
    assert call.call("true", cwd=tmp_path)
    assert not call.call("false", cwd=tmp_path)


def test_a_stage_that_breaks_has_failed_and_the_others_run(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def boom(_: harness.Run) -> harness.Tally:
        raise RuntimeError("the harness itself is broken")

    todo = [harness.Stage("one", boom, 1), harness.Stage("two", lambda _: harness.Tally(3, 0), 1)]
    tallies = harness.perform_all(todo, 2, harness.Board(), 1)
    assert tallies == [harness.Tally(0, 1), harness.Tally(3, 0)]
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "the harness itself is broken" in out


def test_order_of_the_stages() -> None:
    assert [stage.name for stage in harness.stages(fast=True)] == ["lint", "unit"]
    names = [stage.name for stage in harness.stages(fast=False)]
    assert names[:4] == ["lint", "unit", "sanity", "docs"]
    assert names[-2:] == ["default", "site"]
    assert {path.parent.name for path in Path("molecule").glob("*/molecule.yml")} <= set(names)


def test_unknown_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "rediss"])
    with pytest.raises(SystemExit):
        harness.main()
    assert "there is no stage rediss; known are" in capsys.readouterr().err


def test_the_board_says_one_line_per_stage(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = harness.Board()
    board.start("lint")
    board.finish("lint", harness.Tally(1, 0))
    assert capsys.readouterr().out.splitlines() == [
        "  lint               started",
        "  lint               ok          0 s   1 passed",
    ]


def test_no_tests_is_said(logs: Path) -> None:
    assert harness.site(harness.Run("site", io.StringIO(), 0)) == harness.Tally(0, 0, "no tests")

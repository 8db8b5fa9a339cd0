"""What a host remembers, and who may run: the second is told who is the first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.module_utils._backup import state
from plugins.module_utils._backup.errors import BusyError

HOLD = """
import sys, time
sys.path.insert(0, {root!r})
from plugins.module_utils._backup import state
with state.lock({folder!r}, "shop.run", "The backup of shop", shared={shared}):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path, shared: bool = False) -> subprocess.Popen[str]:
    """Another process that has the lock."""
    script = HOLD.format(root=os.getcwd(), folder=str(folder), shared=shared)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    with hold(tmp_path) as first:
        named = rf"The backup of shop \(process {first.pid}, since [\d:]+\) is not done yet"
        with pytest.raises(BusyError, match=named), state.lock(str(tmp_path), "shop.run"):
            pass
        first.kill()
    # The kernel lets go of it, however the first one ended.
    with state.lock(str(tmp_path), "shop.run"):
        pass


def test_readers_share_and_the_pruner_waits(tmp_path: Path) -> None:
    said: list[str] = []
    with hold(tmp_path, shared=True) as first:
        with state.lock(str(tmp_path), "shop.run", shared=True):
            pass
        with pytest.raises(BusyError), state.lock(str(tmp_path), "shop.run", wait_seconds=0.1, say=said.append):
            pass
        first.kill()
    assert len(said) == 1
    assert said[0].startswith("Waiting: ")


def test_a_lock_that_is_let_go_is_had(tmp_path: Path) -> None:
    with hold(tmp_path) as first:
        first.terminate()
        with state.lock(str(tmp_path), "shop.run", wait_seconds=20):
            pass


def test_what_is_remembered_is_added_to(tmp_path: Path) -> None:
    state.remember(str(tmp_path), "shop", error="", seconds=1)
    state.remember(str(tmp_path), "shop", seconds=2)
    assert state.read_states(str(tmp_path)) == {"shop": {"error": "", "seconds": 2}}


def test_a_state_that_was_cut_is_a_job_of_which_nothing_is_known(tmp_path: Path) -> None:
    state.remember(str(tmp_path), "shop", seconds=1)
    state.remember(str(tmp_path), "etc", seconds=1)
    (tmp_path / "shop.json").write_text('{"seconds"')
    assert state.read_states(str(tmp_path)) == {"etc": {"seconds": 1}}
    state.remember(str(tmp_path), "shop", seconds=3)
    assert json.loads((tmp_path / "shop.json").read_text()) == {"seconds": 3}


def test_scratch_has_a_short_name_of_its_own(tmp_path: Path) -> None:
    with (
        state.scratch(str(tmp_path), f"{'x' * 60}.drill") as one,
        state.scratch(str(tmp_path), f"{'x' * 60}.run") as two,
    ):
        assert one.parent != two.parent
        assert len(one.parent.name) == len(two.parent.name) == 30


def test_scratch_is_empty_and_goes(tmp_path: Path) -> None:
    left = tmp_path / "shop.drill/abc"
    left.mkdir(parents=True)
    (left / "file").write_text("of a run that was killed")
    (tmp_path / "shop.drill2").mkdir()
    with state.scratch(str(tmp_path), "shop.drill") as path:
        assert not left.exists()
        assert list(path.iterdir()) == []
        assert path.stat().st_mode & 0o777 == 0o711
        (path / "file").write_text("x")
    assert not path.exists()
    assert (tmp_path / "shop.drill2").exists()

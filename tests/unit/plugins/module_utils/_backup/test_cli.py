"""bulwark-backup as people and timers call it: exit statuses, one sentence on stderr, JSON for machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import cli, state

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "store").mkdir()
    return {
        "host": "h1",
        "store": {"kind": "local", "path": str(tmp_path / "store")},
        "encrypted": False,
        "state_dir": str(tmp_path / "state"),
        "scratch_dir": str(tmp_path / "scratch"),
        "metrics_file": str(tmp_path / "backup.prom"),
        "jobs": [
            {"name": "shop", "kind": "command", "command": ["echo", "hello"], "restore_command": ["cat"]},
            {"name": "slow", "kind": "command", "command": ["sh", "-c", "echo x; exec sleep 60"]},
        ],
    }


@pytest.fixture
def run(tmp_path: Path, settings: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def _run(*words: str) -> tuple[int, str, str]:
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        capfd.readouterr()
        status = cli.main([*words, "--settings", str(tmp_path / "settings.json")])
        return status, *capfd.readouterr()

    yield _run
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


def test_a_host_that_has_never_run_anything_is_heard_of(run: Run, tmp_path: Path) -> None:
    assert run("status")[0] == 0
    text = (tmp_path / "backup.prom").read_text()
    assert 'last_success_timestamp_seconds{backup_job="shop",host="h1",kind="command"} 0' in text
    (tmp_path / "backup.prom").write_text("older\n")
    run("status")
    assert (tmp_path / "backup.prom").read_text() == "older\n"


def test_a_life(run: Run, tmp_path: Path) -> None:
    status, out, _err = run("run", "shop")
    assert status == 0
    assert out.startswith("shop: 20")
    assert "h1" in run("list")[1]
    assert run("drill", "shop")[0] == 0
    assert run("verify", "shop")[0] == 0
    assert run("fetch", "shop", "--member", "output", "--output", "-")[1] == "hello\n"
    assert run("restore", "shop", "--yes")[0] == 0
    assert run("prune")[1] == "Nothing to drop.\n"
    assert run("probe")[0] == 0
    assert "shop" in run("status")[1]
    assert 'backup_job="shop"' in (tmp_path / "backup.prom").read_text()


def test_json_is_all_there_is(run: Run) -> None:
    for words in (["run", "shop"], ["list"], ["drill", "shop"], ["verify", "shop"], ["status"], ["prune"], ["probe"]):
        status, out, err = run(*words, "--json")
        assert (status, err) == (0, "")
        json.loads(out)


def test_a_restore_without_yes_says_what_it_would_do(run: Run) -> None:
    run("run", "shop")
    status, _out, err = run("restore", "shop")
    assert status == 1
    assert "Would restore" in err
    assert "--yes" in err
    assert run("restore", "shop", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["run", "shopp"], 2, "There is no job 'shopp' (did you mean 'shop'?)."),
        (["restore", "shop", "--to", "x"], 2, "--to takes KEY=VALUE, not 'x'."),
        (["drill", "shop"], 1, "There is no backup of h1/shop"),
        (["fetch", "shop", "--member", "x", "--output", "-"], 1, "There is no backup of h1/shop"),
    ],
)
def test_a_mistake_is_one_sentence(run: Run, words: list[str], status: int, sentence: str) -> None:
    code, _out, err = run(*words)
    assert code == status
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_settings_that_are_missing_or_wrong(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    settings["colour"] = "blue"
    assert run("status")[0] == 2
    assert cli.main(["status", "--settings", str(tmp_path / "none")]) == 2
    (tmp_path / "settings.json").write_text("{")
    assert cli.main(["status", "--settings", str(tmp_path / "settings.json")]) == 2


def test_a_private_key_that_the_settings_do_not_name(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    run("list")
    words = ["restore", "shop", "--identity", "key.txt", "--settings", str(tmp_path / "settings.json")]
    assert cli.Command(cli.parser().parse_args(words)).settings.identity_file == "key.txt"


def test_the_second_run_is_busy(run: Run, settings: dict[str, Any]) -> None:
    with state.lock(settings["state_dir"], "shop.run", "The backup of shop"):
        status, _out, err = run("run", "shop")
    assert status == 75
    assert "The backup of shop (process" in err


@pytest.mark.skipif(not shutil.which("age-keygen"), reason="age is not installed here")
def test_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = json.loads(run("make-key", "--json")[1])
    assert set(made) == {"recipient", "identity"}
    read, write = os.pipe()
    os.write(write, b"a long enough passphrase\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        out = run("make-key", "--passphrase")[1]
    assert " passphrase:17:" in out
    assert "AGE-SECRET" not in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(run: Run, tmp_path: Path, number: int) -> None:
    run("status")
    script = "import sys; from plugins.module_utils._backup.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", script, "run", "slow", "--settings", str(tmp_path / "settings.json")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and "last_attempt" not in state.read_states(str(tmp_path / "state"))["slow"]:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    _out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"Stopped by {signal.Signals(number).name}" in err
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]

"""guard: each state on a host below a temporary directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils import _guard
from plugins.modules import guard


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "systemd/multi-user.target.wants").mkdir(parents=True)
    monkeypatch.setattr(_guard, "ROOT", str(tmp_path / "guard"))
    monkeypatch.setattr(_guard, "ETC", str(tmp_path / "systemd"))
    for name in ("TREES", "CLOSED_TREES", "SINGLE"):
        monkeypatch.setattr(_guard, name, ())
    monkeypatch.setattr(_guard, "DOORS", (str(tmp_path),))
    monkeypatch.setattr(_guard, "ACCOUNTS", (str(tmp_path / "passwd"),))
    monkeypatch.setattr(_guard, "ACCOUNTS_LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(_guard, "call", lambda *words: "")
    monkeypatch.setattr(
        _guard, "unit_states", lambda names: {name: {"load": "", "file": "", "active": ""} for name in names}
    )
    (tmp_path / "passwd").write_text("root:x:0:0::/:/sbin/nologin\n")
    path = tmp_path / "sshd_config"
    path.write_text("Port 22\n")
    return path


def test_states(run_module: Any, config: Path) -> None:
    assert {**run_module(guard, state="confirmed"), "invocation": None} == {
        "invocation": None,
        "armed": False,
        "put_back": "",
        "put_back_paths": [],
        "changed": False,
        "confirmed": False,
    }
    assert run_module(guard, state="armed", users={"deploy": "/home/deploy"})["armed"]
    assert run_module(guard, state="extended")["armed"]
    assert run_module(guard, state="read")["armed"]
    done = run_module(guard, state="restored", reason="a test asked for it")
    assert done["changed"]
    assert not done["armed"]
    assert "because a test asked for it" in done["put_back"]
    assert not run_module(guard, state="extended")["armed"]
    assert run_module(guard, state="told")["put_back"] == ""


def test_unhardening(run_module: Any, config: Path) -> None:
    assert "was not hardened" in run_module(guard, state="unhardened")["msg"]
    run_module(guard, state="recorded", paths=[str(config)], units=["a.service"], packages=["ufw"])
    config.write_text("Port 2222\n")
    foretold = run_module(guard, check=True, state="unhardened")
    assert str(config) in foretold["changed_paths"]
    assert config.read_text() == "Port 2222\n"
    done = run_module(guard, state="unhardened")
    assert (done["changed_paths"], done["packages"], done["armed"]) == ([str(config)], ["ufw"], True)
    assert config.read_text() == "Port 22\n"
    assert run_module(guard, state="confirmed")["confirmed"]
    assert run_module(guard, state="forgotten")["changed"]
    assert not Path(_guard.ROOT).exists()


def test_check_mode_changes_nothing(run_module: Any, config: Path) -> None:
    for state in ("armed", "extended", "confirmed", "restored", "recorded", "told", "forgotten"):
        assert not run_module(guard, check=True, state=state, users={"a": "/home/a"})["changed"]
    assert not Path(_guard.ROOT).exists()

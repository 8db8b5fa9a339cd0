"""Old backups go by a module: check, real, again."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from plugins.modules import backup_prune, backup_upload


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module) -> dict:
    """Three backups, of today, of yesterday and of the day before."""
    monkeypatch.setattr("plugins.module_utils._backup_module.STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "store").mkdir()
    given = {"store": {"kind": "local", "path": str(tmp_path / "store")}, "host": "web1", "job": "numbers"}
    for days in range(3):
        assert not run_module(backup_upload, **given, command=["seq", "9"], encrypted=False).failed
        age(max((tmp_path / "store/web1/numbers").iterdir()), days)
    return given


def age(folder: Path, days: int) -> None:
    """Makes a backup some days older."""
    taken = datetime.strptime(folder.name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc) - timedelta(days=days)
    name = f"{taken:%Y%m%dT%H%M%SZ}{folder.name[16:]}"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "backup": name}))
    folder.rename(folder.with_name(name))


def kept(given: dict) -> int:
    return len(list((Path(given["store"]["path"]) / "web1/numbers").iterdir()))


def test_check_real_again(triple, given):
    real = triple(backup_prune, **given, keep={"daily": 1, "weekly": 0, "monthly": 0})
    assert (len(real["dropped"]), kept(given)) == (2, 1)
    assert real["dropped"] == sorted(real["dropped"])


def test_check_mode_removes_nothing(run_module, given):
    result = run_module(backup_prune, check=True, **given, keep={"daily": 1, "weekly": 0, "monthly": 0})
    assert (len(result["dropped"]), kept(given)) == (2, 3)
    assert result["diff"]["before"].splitlines() == result["dropped"]


def test_what_is_kept_by_default(run_module, given):
    assert not run_module(backup_prune, **given)["changed"]


def test_the_repository_of_an_engine_is_left_alone(run_module, given, tmp_path):
    for path in (tmp_path / "store").rglob("manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "restic"}))
    result = run_module(backup_prune, **given, keep={"daily": 1})
    assert result.failed
    assert "repository of restic" in result["msg"]
    assert kept(given) == 3

"""The catalogue as data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugins.modules import backup_info, backup_upload


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module) -> dict:
    monkeypatch.setattr("plugins.module_utils._backup_module.STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "store").mkdir()
    store = {"kind": "local", "path": str(tmp_path / "store")}
    for host, job in (("web1", "a"), ("web1", "a"), ("web1", "b"), ("web2", "a")):
        assert not run_module(
            backup_upload, store=store, host=host, job=job, command=["seq", "9"], encrypted=False
        ).failed
    return store


def names(result: dict) -> list[tuple[str, str]]:
    return [(one["host"], one["job"]) for one in result["backups"]]


def test_everything_is_listed_and_nothing_changed(run_module, store):
    result = run_module(backup_info, store=store)
    assert not result["changed"]
    assert names(result) == [("web1", "a"), ("web1", "a"), ("web1", "b"), ("web2", "a")]
    one = result["backups"][0]
    assert (one["kind"], one["plain_bytes"], one["last_drill"]) == ("command", 18, None)
    assert 0 <= one["age_seconds"] < 60


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"newest": 1}, [("web1", "a"), ("web1", "b"), ("web2", "a")]),
        ({"host": "web2"}, [("web2", "a")]),
        ({"job": "a", "newest": 1}, [("web1", "a"), ("web2", "a")]),
        ({"host": "web9"}, []),
    ],
)
def test_some_are_chosen(run_module, store, more, wanted):
    assert names(run_module(backup_info, store=store, **more)) == wanted
    assert names(run_module(backup_info, check=True, store=store, **more)) == wanted


def test_a_drill_is_told_and_what_has_no_manifest_does_not_exist(run_module, store, tmp_path):
    first, second = sorted((tmp_path / "store/web1/a").iterdir())
    (first / "drill-20260101T000000Z.json").write_text(json.dumps({"ok": True, "seconds": 2, "checks": []}))
    (second / "manifest.json").unlink()
    (one,) = run_module(backup_info, store=store, host="web1", job="a")["backups"]
    assert one["backup"] == first.name
    assert one["last_drill"] == {"ok": True, "seconds": 2, "checks": []}


def test_a_store_that_is_not_there_is_said(run_module, tmp_path):
    result = run_module(backup_info, store={"kind": "local", "path": str(tmp_path / "nowhere")})
    assert result.failed
    assert "does not exist" in result["msg"]

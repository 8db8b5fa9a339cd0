"""A backup by a module: what it makes, what check mode makes, and what is left when the source fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.modules import backup_info, backup_upload


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.module_utils._backup_module.STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def given(tmp_path: Path) -> dict:
    (tmp_path / "store").mkdir()
    (tmp_path / "media").mkdir()
    (tmp_path / "media/picture").write_bytes(b"picture" * 1000)
    store = {"kind": "local", "path": str(tmp_path / "store")}
    return {"store": store, "host": "web1", "job": "media", "encrypted": False}


def stored(given: dict) -> list[Path]:
    return [path for path in Path(given["store"]["path"]).rglob("*") if path.is_file()]


def test_a_directory_becomes_a_backup_that_is_listed(run_module, given, tmp_path):
    paths = [str(tmp_path / "media")]
    foretold = run_module(backup_upload, check=True, **given, paths=paths)
    assert foretold["changed"]
    assert stored(given) == []
    real = run_module(backup_upload, **given, paths=paths)
    assert real["changed"]
    assert [member["name"] for member in real["backup"]["members"]] == ["files.tar"]
    listed = run_module(backup_info, store=given["store"], host="web1", job="media")["backups"]
    assert [one["backup"] for one in listed] == [real["backup"]["backup"]]


def test_the_output_of_a_command_becomes_a_backup(run_module, given):
    real = run_module(backup_upload, **given, command=["seq", "100000"])
    assert real["backup"]["members"][0]["plain_bytes"] == 588895


def test_a_command_that_fails_leaves_no_backup(run_module, given):
    result = run_module(backup_upload, **given, command=["sh", "-c", "echo half; exit 3"])
    assert result.failed
    assert "exit status 3" in result["msg"]
    assert stored(given) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "one of the following is required: paths, command"),
        ({"paths": ["/etc"], "command": ["true"]}, "mutually exclusive"),
        ({"paths": ["/nowhere/at/all"]}, "/nowhere/at/all does not exist"),
        ({"command": ["true"], "encrypted": True}, "There are no recipients"),
    ],
)
def test_what_cannot_work_is_refused(run_module, given, more, words):
    result = run_module(backup_upload, **{**given, **more})
    assert result.failed
    assert words in result["msg"]
    assert stored(given) == []


def test_a_secret_is_in_no_output(run_module, given):
    store = {"kind": "s3", "bucket": "b", "access_key": "known", "secret_key": "very-secret-word", "region": "x"}
    result = run_module(backup_upload, **{**given, "store": store}, command=["true"])
    assert result.failed
    assert "very-secret-word" not in result.text

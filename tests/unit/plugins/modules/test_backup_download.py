"""One member of a backup by a module: check, real, again; and files that are there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.modules import backup_download, backup_upload


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module) -> dict:
    monkeypatch.setattr("plugins.module_utils._backup_module.STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "store").mkdir()
    store = {"kind": "local", "path": str(tmp_path / "store")}
    common = {"store": store, "host": "web1", "job": "numbers"}
    assert not run_module(backup_upload, **common, command=["seq", "1000"], encrypted=False).failed
    return {**common, "dest": str(tmp_path / "numbers")}


def test_check_real_again(triple, given):
    real = triple(backup_download, **given)
    assert real["changed"]
    assert Path(given["dest"]).read_text().splitlines() == [str(number) for number in range(1, 1001)]
    assert Path(given["dest"]).stat().st_mode & 0o777 == 0o600
    assert real["member"]["name"] == "output"


def test_a_file_that_differs_is_replaced_only_when_asked(run_module, given):
    Path(given["dest"]).write_text("mine\n")
    refused = run_module(backup_download, **given)
    assert refused.failed
    assert "replace: true" in refused["msg"]
    assert Path(given["dest"]).read_text() == "mine\n"
    assert run_module(backup_download, **given, replace=True)["changed"]
    assert Path(given["dest"]).read_text().startswith("1\n2\n")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"job": "letters"}, "There is no backup of web1/letters"),
        ({"backup": "20200101T000000Z-00000000"}, "the newest are"),
        ({"member": "dump"}, "it has output"),
    ],
)
def test_what_is_not_there_is_said(run_module, given, more, words):
    result = run_module(backup_download, **{**given, **more})
    assert result.failed
    assert words in result["msg"]
    assert not Path(given["dest"]).exists()


def test_a_flipped_bit_gives_no_file(run_module, given, tmp_path):
    (stored,) = (tmp_path / "store").rglob("output.zst")
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    assert run_module(backup_download, **given).failed
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("numbers")]

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.module_utils._backup import renames


@pytest.fixture(params=[True, False], ids=["at once", "one by one"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a file system that can exchange names, and on one that cannot."""
    if not request.param:
        monkeypatch.setattr(renames, "exchange", lambda _one, _other: False)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_text("new")
    return tmp_path


def replace(folder: Path) -> bool:
    return renames.replace(*(str(folder / name) for name in ("new", "path", "kept")))


def test_what_was_there_is_kept(folder: Path) -> None:
    (folder / "path").write_text("old")
    assert replace(folder)
    assert (folder / "path/file").read_text() == "new"
    assert (folder / "kept").read_text() == "old"
    assert not (folder / "new").exists()


def test_nothing_was_there(folder: Path) -> None:
    assert not replace(folder)
    assert (folder / "path/file").read_text() == "new"


def test_nothing_new_changes_nothing(folder: Path) -> None:
    (folder / "path").write_text("old")
    with pytest.raises(FileNotFoundError):
        renames.replace(*(str(folder / name) for name in ("none", "path", "kept")))
    assert (folder / "path").read_text() == "old"
    assert not (folder / "kept").exists()

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import kind_system
from plugins.module_utils._backup.errors import SettingsError


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small host below a folder."""
    for name in ("etc/letsencrypt/live", "etc/nginx", "spool"):
        (tmp_path / "host" / name).mkdir(parents=True)
    (tmp_path / "host/etc/letsencrypt/live/key.pem").write_text("first")
    (tmp_path / "host/etc/nginx/nginx.conf").write_text("conf")
    top = tmp_path / "host"
    monkeypatch.setattr(kind_system, "PATHS", (f"{top}/etc", f"{top}/spool", f"{top}/none"))
    monkeypatch.setattr(kind_system, "PLACES", {"letsencrypt": f"{top}/etc/letsencrypt"})
    return top


def test_a_drill_looks_at_files_and_packages(host: Path, context: Any, taken: Any) -> None:
    there = context("system")
    backup = taken(there)
    assert [check.name for check in kind_system.drill(there, backup) if check.ok] == [
        "counts",
        "entries",
        "contents",
        "packages",
    ]
    assert b"# apt-mark showhold\n" in backup.data["packages.txt"]


def test_only_what_is_named_is_replaced(host: Path, context: Any, taken: Any) -> None:
    there = context("system")
    backup = taken(there)
    key = host / "etc/letsencrypt/live/key.pem"
    key.write_text("second")
    (line,) = kind_system.restore(there, backup, {"only": "letsencrypt"})
    assert key.read_text() == "first"
    (before,) = (host / "etc").glob("letsencrypt.before-*")
    assert (before / "live/key.pem").read_text() == "second"
    assert str(before) in line


def test_everything_goes_beside(host: Path, context: Any, taken: Any) -> None:
    there = context("system")
    backup = taken(there)
    (host / "etc/nginx/nginx.conf").write_text("later")
    kind_system.restore(there, backup, {})
    assert (host / "etc/nginx/nginx.conf").read_text() == "later"
    (folder,) = Path(there.settings.state_dir).glob("restored-*")
    assert (folder / str(host)[1:] / "etc/nginx/nginx.conf").read_text() == "conf"
    assert (folder / "packages.txt").exists()


def test_an_unknown_word_is_explained(host: Path, context: Any, taken: Any) -> None:
    there = context("system")
    with pytest.raises(SettingsError, match="did you mean 'letsencrypt'"):
        kind_system.restore(there, taken(there), {"only": "letsencript"})

"""What a source becomes: a digest that names it and an archive that carries it."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils.release_source import SourceError, describe, directory_digest, pack


def source(directory: Path, **values: Any) -> dict[str, Any]:
    empty = {"repository": "", "wheel": "", "requirements": "", "excludes": [".git", "__pycache__", "*.pyc"]}
    return {"directory": str(directory), **empty, **values}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    (root / "app/__pycache__").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git/HEAD").write_text("x")
    (root / "app/main.py").write_text("app = 1\n")
    (root / "app/__pycache__/main.pyc").write_text("x")
    (root / "requirements.txt").write_text("uvicorn==1\n")
    return root


def test_digest_counts_content_and_not_time(code):
    before = directory_digest(str(code), [".git", "__pycache__"])
    os.utime(code / "app/main.py", (1, 1))
    (code / ".git/HEAD").write_text("y")
    (code / "app/__pycache__/main.pyc").write_text("y")
    assert directory_digest(str(code), [".git", "__pycache__"]) == before
    (code / "app/main.py").write_text("app = 2\n")
    assert directory_digest(str(code), [".git", "__pycache__"]) != before


def test_digest_counts_executable_bits_and_links(code):
    before = directory_digest(str(code), [])
    (code / "app/main.py").chmod(0o755)
    runnable = directory_digest(str(code), [])
    (code / "link").symlink_to("app")
    assert len({before, runnable, directory_digest(str(code), [])}) == 3


def test_archive_has_what_the_digest_counts(code):
    with tarfile.open(fileobj=BytesIO(pack(source(code)))) as archive:
        assert sorted(archive.getnames()) == ["app/main.py", "requirements.txt"]
        assert {info.uid for info in archive} == {0}


def test_missing_lock_file_is_a_sentence(code):
    with pytest.raises(SourceError, match=r"has no file lock\.txt; lock the dependencies"):
        describe(source(code, requirements="lock.txt"))


def test_missing_directory_is_a_sentence(code):
    with pytest.raises(SourceError, match="there is no directory"):
        describe(source(code / "nowhere"))


def test_wheel_from_an_address_is_named_by_its_checksum():
    digest = "a" * 64
    assert describe({**source(Path()), "directory": "", "wheel": f"https://x.test/a.whl#sha256={digest}"}) == digest

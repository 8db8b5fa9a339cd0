from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import kind_files
from plugins.module_utils._backup.errors import DrillError, SettingsError, SourceError
from plugins.module_utils._backup.tar_listing import SAMPLES, listing_of

LONG = "long-name-" * 15


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "a, b & [c] (d)+.x"
    (top / "empty").mkdir(parents=True)
    (top / "sub" / LONG).mkdir(parents=True)
    (top / "small").write_bytes(b"small")
    (top / "none").write_bytes(b"")
    (top / "big").write_bytes(os.urandom(3 * 1024 * 1024 + 7))
    (top / "sub" / LONG / "ünïcödé\udcff").write_bytes(b"x" * 513)
    (top / "link").symlink_to("small")
    (top / "far").symlink_to(top / "sub")
    os.link(top / "big", top / "sub" / "also big")
    (top / "script").write_bytes(b"#!/bin/sh\n")
    (top / "script").chmod(0o4755)
    with (top / "sparse").open("wb") as handle:
        handle.seek(4 * 1024 * 1024)
        handle.write(b"end")
        handle.truncate(8 * 1024 * 1024)
    for number in range(2 * SAMPLES):
        (top / "sub" / f"file{number}").write_bytes(b"%d" % number)
    return top


def test_what_the_stream_holds_is_what_the_tree_holds(tree: Path, context: Any, taken: Any) -> None:
    backup = taken(context("files", paths=[str(tree)]))
    evidence = backup.manifest.members[0].evidence
    found = listing_of({str(tree)[1:]: str(tree)}, evidence["samples"])
    assert found == {key: value for key, value in evidence.items() if key not in ("paths", "users", "groups")}
    assert (evidence["users"], evidence["groups"]) == ({"root": 0}, {"root": 0})
    assert len(evidence["samples"]) == SAMPLES
    assert evidence["files"] == 2 * SAMPLES + 7
    assert evidence["bytes"] > 8 * 1024 * 1024


def test_the_evidence_names_nothing(tree: Path, context: Any, taken: Any) -> None:
    (tree / "secret-name").write_bytes(b"1234")
    text = str(taken(context("files", paths=[str(tree)])).manifest.members[0].evidence)
    assert "secret-name" not in text
    assert "03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4" not in text


def test_a_second_stream_of_the_same_tree_is_the_same(tree: Path, context: Any, taken: Any) -> None:
    # tar puts its process id into the name of a file with holes.
    (tree / "sparse").unlink()
    first, second = (taken(context("files", paths=[str(tree)])) for _ in range(2))
    assert first.data == second.data


def test_a_drill_finds_the_tree_as_it_was(tree: Path, context: Any, taken: Any) -> None:
    there = context("files", paths=[str(tree)])
    assert all(check.ok for check in kind_files.drill(there, taken(there)))


@pytest.mark.parametrize("harm", ["content", "mode", "missing"])
def test_a_drill_notices(tree: Path, context: Any, taken: Any, harm: str, tmp_path: Path) -> None:
    there = context("files", paths=[str(tree)])
    backup = taken(there)
    if harm == "content":
        for path in (tree / "sub").glob("file*"):
            path.write_bytes(path.read_bytes()[::-1] if len(set(path.name[4:])) > 1 else b"y" * path.stat().st_size)
    elif harm == "mode":
        (tree / "small").chmod(0o666)
    else:
        (tree / "small").unlink()
    backup.data = taken(context("files", paths=[str(tree)])).data
    checks = {check.name: check.ok for check in kind_files.drill(there, backup)}
    assert checks == {
        "counts": harm != "missing",
        "entries": harm == "content",
        "contents": harm == "mode" or (harm == "missing" and checks["contents"]),
    }


@pytest.mark.parametrize("only", ["", "sub", "small"])
def test_what_a_restore_replaces_stays_beside(tree: Path, context: Any, taken: Any, only: str) -> None:
    there = context("files", paths=[str(tree)])
    backup = taken(there)
    before = listing_of({"t": str(tree)}, [])
    (tree / "small").write_bytes(b"changed")
    (tree / "sub" / "file1").unlink()
    (tree / "new").write_bytes(b"new")
    changed = tree / only if only else tree
    lines = kind_files.restore(there, backup, {"only": str(changed)} if only else {})
    (old,) = changed.parent.glob(f"{glob_escape(changed.name)}.before-*")
    assert lines == [f"{changed} is restored; what was there is {old}."]
    assert (tree / "new").exists() is bool(only)
    assert (tree / "small").read_bytes() == (b"changed" if only == "sub" else b"small")
    assert (tree / "sub" / "file1").exists() is (only != "small")
    if not only:
        assert listing_of({"t": str(tree)}, []) == before
        assert (tree / "far").readlink() == tree / "sub"
        assert (tree / "big").stat().st_nlink == 2
    os.rename(old, changed.with_name("old"))
    assert not list(changed.parent.glob("*.restored-*"))


def glob_escape(name: str) -> str:
    return name.replace("[", "[[]")


def test_a_restore_that_differs_replaces_nothing(tree: Path, context: Any, taken: Any) -> None:
    there = context("files", paths=[str(tree)])
    backup = taken(there)
    (tree / "small").write_bytes(b"later")
    backup.data = taken(context("files", paths=[str(tree)], exclude=["none"])).data
    with pytest.raises(DrillError, match="Nothing was replaced"):
        kind_files.restore(there, backup, {})
    assert (tree / "small").read_bytes() == b"later"
    assert [path.name for path in tree.parent.iterdir() if ".restored-" in path.name] == []


def test_restored_elsewhere(tree: Path, context: Any, taken: Any, tmp_path: Path) -> None:
    there = context("files", paths=[str(tree)])
    target = tmp_path / "elsewhere"
    kind_files.restore(there, taken(there), {"path": str(target), "only": str(tree / "small")})
    assert [str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()] == [f"{tree}/small"[1:]]
    with pytest.raises(SettingsError, match="not empty"):
        kind_files.restore(there, taken(there), {"path": str(target)})


def test_what_the_backup_does_not_hold_cannot_be_restored(tree: Path, context: Any, taken: Any) -> None:
    there = context("files", paths=[str(tree / "sub")])
    with pytest.raises(SettingsError, match="but not"):
        kind_files.restore(there, taken(there), {"only": str(tree / "small")})


def test_excluded(tree: Path, context: Any, taken: Any) -> None:
    backup = taken(
        context("files", paths=[str(tree)], exclude=["file1*", f"{str(tree).replace('[c]', '?c?')}/sub/{LONG}"])
    )
    names = members(backup.data["files.tar"], tree)
    assert "sub/file2" in names
    assert not [name for name in names if "file1" in name or LONG in name]


def members(data: bytes, tree: Path) -> list[str]:
    import io

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [name[len(str(tree)) :] for name in archive.getnames()]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("relative", SettingsError, "absolute"),
        ("/a/../b", SettingsError, "absolute"),
        ("/", SettingsError, "absolute"),
        ("/no/such/path", SourceError, "does not exist"),
    ],
)
def test_paths_that_cannot_be(context: Any, taken: Any, path: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        taken(context("files", paths=[path]))


def test_a_link_is_not_taken_for_what_it_leads_to(tree: Path, context: Any, taken: Any) -> None:
    with pytest.raises(SettingsError, match="leads to"):
        taken(context("files", paths=[str(tree / "far")]))


def test_files_that_move_are_noted(tree: Path, context: Callable[..., Any]) -> None:
    there = context("files", paths=[str(tree)])
    streams = kind_files.streams(there)
    stream = next(streams)
    stream.status = 1
    stream.said = "tar: etc/x: file changed as we read it\ntar: y: File removed before we read it\ntar: other\n"
    assert next(streams, None) is None
    assert stream.evidence["changed_while_read"] == 2
    assert context.lines[0].startswith("2 files changed")  # type: ignore[attr-defined]
    assert 1 in stream.ok_status
    assert 2 not in stream.ok_status

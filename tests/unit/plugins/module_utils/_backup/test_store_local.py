"""A folder as a store."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup.errors import ExistsError, StoreError
from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import Store, Unfinished, open_store
from tests.stores.conformance import Conformance, hurried

ROOT = Path(__file__).resolve().parents[5]


class TestLocal(Conformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return hurried(open_store(StoreSettings(kind="local", path=str(tmp_path))))


def local(path: Path | str, **words: Any) -> Store:
    return hurried(open_store(StoreSettings(kind="local", path=str(path), **words)), patience_seconds=0)


def test_a_share_that_is_not_mounted_is_no_place(tmp_path):
    store = local(tmp_path, mount_required=True)
    for attempt in (
        lambda: store.put("a", b"x"),
        lambda: store.begin("a", 1),
        lambda: list(store.list("")),
        lambda: store.delete(["a"]),
        lambda: list(store.read("a")),
    ):
        with pytest.raises(StoreError, match=f"Nothing is mounted at {tmp_path}, so nothing is stored there: mount it"):
            attempt()
    assert list(tmp_path.iterdir()) == []
    assert not list(local("/proc", mount_required=True).list("no-such"))


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(StoreError, match="does not exist: create it, or mount what holds the backups"):
        local(tmp_path / "usb").put("a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_reads_it(tmp_path):
    local(tmp_path).put("h/j/a", b"x")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("h", "h/j", "h/j/a")] == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/x", "a//b", "", "a/", "./a"])
def test_names_do_not_lead_out_of_the_folder(tmp_path, key):
    store = local(tmp_path)
    for attempt in (lambda: store.put(key, b"x"), lambda: list(store.read(key)), lambda: store.delete([key])):
        with pytest.raises(StoreError, match="cannot be the name of an object"):
            attempt()


def test_a_handle_names_an_upload_and_nothing_else(tmp_path):
    store = local(tmp_path)
    store.put("a/b", b"x")
    with pytest.raises(StoreError, match="no unfinished upload"):
        store.abort(Unfinished("a/b", "b", datetime.now(timezone.utc)))
    assert [entry.key for entry in store.list("")] == ["a/b"]


@pytest.mark.parametrize(
    ("code", "said", "transient"),
    [
        (errno.ENOSPC, "is full .*: make room, or prune", False),
        (errno.EDQUOT, "is full", False),
        (errno.EROFS, "refused access", False),
        (errno.EIO, "failed: Input/output error", False),
        (errno.ESTALE, "failed: Stale file handle", True),
        (errno.EHOSTDOWN, "failed: Host is down", True),
    ],
)
def test_what_a_disk_says(tmp_path, monkeypatch, code, said, transient):
    def fail(*words: Any) -> int:
        raise OSError(code, os.strerror(code))

    store = local(tmp_path)
    upload = store.begin("j/a", 4)
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(StoreError, match=said) as error:
        upload.part(1, b"data")
    assert error.value.transient is transient
    upload.abort()
    assert not list(store.list(""))
    assert not list(tmp_path.rglob("*.unfinished"))


def test_a_disk_that_is_away_for_a_moment(tmp_path, monkeypatch):
    calls = []

    def once(*words: Any) -> int:
        calls.append(words)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*words)

    store, real = hurried(local(tmp_path)), os.pwrite
    monkeypatch.setattr(os, "pwrite", once)
    store.put("a", b"data")
    assert b"".join(store.read("a")) == b"data"


def test_shares_without_hard_links(tmp_path, monkeypatch):
    def fail(*words: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    store = local(tmp_path)
    store.put("a", b"x")
    with pytest.raises(ExistsError, match="not replaced"):
        store.put("a", b"y")
    assert [(entry.key, entry.size) for entry in store.list("")] == [("a", 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_kill_leaves_nothing_to_see(tmp_path):
    code = (
        "import sys\n"
        "from plugins.module_utils._backup import settings, stores\n"
        f"store = stores.open_store(settings.StoreSettings(kind='local', path={str(tmp_path)!r}))\n"
        "upload = store.begin('j/a', 65536)\n"
        "for number in range(1, 10**6):\n"
        "    upload.part(number, bytes(65536))\n"
        "    print(number, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout
    for _number in range(5):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    store = local(tmp_path)
    assert not list(store.list(""))
    [left] = store.unfinished("j/")
    assert left.key == "j/a"
    store.abort(left)
    assert not list(tmp_path.iterdir()) or not list((tmp_path / "j").iterdir())


def test_an_upload_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *words, real=real, name=name: (done.append(name), real(*words))[1])
    local(tmp_path).put("a", b"x")
    assert done == ["fsync", "link", "fsync"]


def test_an_upload_and_a_pruning_of_its_neighbours(tmp_path):
    store = local(tmp_path)
    store.put("h/j/1/a", b"x")
    upload = store.begin("h/j/1/b", 9)
    store.delete(["h/j/1/a"])
    upload.part(1, b"y")
    upload.complete()
    assert [entry.key for entry in store.list("h/")] == ["h/j/1/b"]

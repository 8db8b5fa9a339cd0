"""What every store of backups does in the same way; one class, run against each of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from plugins.module_utils._backup.errors import ExistsError, NotFoundError
from plugins.module_utils._backup.retry import Retry
from plugins.module_utils._backup.stores import Entry, Store

MIB = 2**20
# The smallest part that S3 and B2 take.
PART = 5 * MIB


# Opens a store; the words are settings that differ from the usual ones.
Opener = Callable[..., Store]


def unique() -> str:
    """The name of a bucket that no other test has."""
    return f"backups-{uuid.uuid4().hex}"


def hurried(store: Store, patience_seconds: float = 30) -> Store:
    """The same store, without its pauses."""
    store.retry = Retry(patience_seconds, spread=lambda least, most: min(most, 0.02))  # type: ignore[attr-defined]
    return store


def content(store: Store, key: str, start: int = 0) -> bytes:
    return b"".join(store.read(key, start))


def keys(store: Store, prefix: str, after: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix, after)]


class Conformance:
    """C(store) is a fixture of the class below."""

    @pytest.fixture
    def folder(self) -> str:
        """A place in the store that no other test uses."""
        return f"backups/{uuid.uuid4().hex}/"

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB + 7])
    def test_what_is_put_is_read(self, store: Store, folder: str, size: int) -> None:
        data = os.urandom(size)
        store.put(f"{folder}a", data)
        assert content(store, f"{folder}a") == data
        [entry] = store.list(folder)
        assert entry == Entry(f"{folder}a", size, entry.modified)
        assert abs(datetime.now(timezone.utc) - entry.modified) < timedelta(minutes=1)

    def test_reading_starts_anywhere(self, store: Store, folder: str) -> None:
        data = os.urandom(2 * MIB + 5)
        store.put(f"{folder}a", data)
        for start in (1, MIB, MIB + 1, 2 * MIB + 4, 2 * MIB + 5, 9 * MIB):
            assert content(store, f"{folder}a", start) == data[start:], start
        assert all(len(piece) <= MIB for piece in store.read(f"{folder}a"))

    def test_a_reader_may_stop_early(self, store: Store, folder: str) -> None:
        data = os.urandom(3 * MIB)
        store.put(f"{folder}a", data)
        for _number in range(3):
            assert data.startswith(next(iter(store.read(f"{folder}a"))))
        assert content(store, f"{folder}a") == data

    def test_what_is_not_there_cannot_be_read(self, store: Store, folder: str) -> None:
        for key in (f"{folder}a", f"{folder}a/b"):
            with pytest.raises(NotFoundError, match="has no"):
                content(store, key)

    def test_listings_are_in_the_order_of_keys(self, store: Store, folder: str) -> None:
        names = ["a", "a-b/c", "a/b", "a/b-c/d", "a/b/c", "aa", "b/0", "b/00", "b/1 +%ü"]
        # A name cannot be a file and a folder at once in a file system.
        names = [f"{folder}{name}.x" for name in names]
        for name in reversed(names):
            store.put(name, b"x")
        wanted = sorted(names)
        assert keys(store, folder) == wanted
        assert keys(store, folder[:-1]) == wanted
        for prefix in ("a", "a/", "a/b", "a/b-", "b/0", "b/1 +", "c", "a.x", "a/b/c.x/"):
            assert keys(store, folder + prefix) == [name for name in wanted if name.startswith(folder + prefix)], prefix
        for after in (wanted[0], wanted[3], f"{folder}a/b/", f"{folder}b", wanted[-1]):
            assert keys(store, folder, after) == [name for name in wanted if name > after], after

    def test_nothing_is_listed_where_nothing_is(self, store: Store, folder: str) -> None:
        assert keys(store, folder) == keys(store, f"{folder}a/b") == []
        assert list(store.unfinished(folder)) == []

    def test_put_never_replaces(self, store: Store, folder: str) -> None:
        store.put(f"{folder}a", b"first")
        with pytest.raises(ExistsError, match="not replaced"):
            store.put(f"{folder}a", b"other")
        store.put(f"{folder}a", b"first")
        assert content(store, f"{folder}a") == b"first"
        assert keys(store, folder) == [f"{folder}a"]
        assert list(store.unfinished(folder)) == []

    @pytest.mark.parametrize("sizes", [(), (0,), (7,), (PART,), (PART, 1), (PART, PART)])
    def test_uploads_are_seen_once_they_are_complete(self, store: Store, folder: str, sizes: tuple[int, ...]) -> None:
        upload = store.begin(f"{folder}a", PART)
        parts = [os.urandom(size) for size in sizes]
        for number, part in enumerate(parts, 1):
            upload.part(number, memoryview(part))
            assert keys(store, folder) == []
        upload.complete()
        assert [(entry.key, entry.size) for entry in store.list(folder)] == [(f"{folder}a", sum(sizes))]
        assert content(store, f"{folder}a") == b"".join(parts)
        assert list(store.unfinished(folder)) == []

    def test_a_part_may_be_sent_again(self, store: Store, folder: str) -> None:
        upload = store.begin(f"{folder}a", PART)
        buffer = bytearray(PART)
        for byte in (b"x", b"y"):
            buffer[:] = byte * PART
            upload.part(1, memoryview(buffer))
        # The caller may use its buffer for the next part at once.
        buffer[:] = b"z" * PART
        upload.part(2, memoryview(buffer))
        buffer[:3] = b"end"
        upload.part(3, memoryview(buffer)[:3])
        upload.complete()
        assert content(store, f"{folder}a") == b"y" * PART + b"z" * PART + b"end"

    def test_an_aborted_upload_leaves_nothing(self, store: Store, folder: str) -> None:
        upload = store.begin(f"{folder}a", PART)
        upload.part(1, bytes(PART))
        upload.part(2, b"x")
        upload.abort()
        upload.abort()
        assert keys(store, folder) == []
        assert list(store.unfinished(folder)) == []

    def test_an_upload_that_was_left_is_found_and_aborted(self, store: Store, folder: str) -> None:
        for name in ("a", "b/c"):
            upload = store.begin(f"{folder}{name}", PART)
            upload.part(1, bytes(PART))
            upload.part(2, b"x")
        left = list(store.unfinished(folder))
        assert sorted(one.key for one in left) == [f"{folder}a", f"{folder}b/c"]
        assert keys(store, folder) == []
        assert list(store.unfinished(f"{folder}b")) == [one for one in left if one.key == f"{folder}b/c"]
        for one in left:
            assert abs(datetime.now(timezone.utc) - one.started) < timedelta(minutes=1)
            store.abort(one)
            store.abort(one)
        assert list(store.unfinished(folder)) == []

    def test_deleted_objects_are_gone(self, store: Store, folder: str) -> None:
        for name in ("a", "b/c", "b/d"):
            store.put(folder + name, b"x")
        store.delete(iter([f"{folder}b/c", f"{folder}a", f"{folder}never", f"{folder}no/such"]))
        assert keys(store, folder) == [f"{folder}b/d"]
        store.delete([f"{folder}b/c", f"{folder}b/d"])
        store.delete([])
        assert keys(store, folder) == []
        # A name that is free again is a name like any other.
        store.put(f"{folder}a", b"y")
        assert content(store, f"{folder}a") == b"y"

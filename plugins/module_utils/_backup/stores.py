# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every store can do, and the table of stores. A store is one file and one line here."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from .errors import ExistsError, StoreError
from .settings import StoreSettings, check_store

# Equal parts, for R2; 10,000 of them at most, for S3.
PART_BYTES = 16 * 2**20
PARTS = 10_000
# How much is read at a time.
PIECE_BYTES = 2**20


class Entry(NamedTuple):
    """One object: its whole key, its size in bytes, when it was stored (UTC)."""

    key: str
    size: int
    modified: datetime


class Unfinished(NamedTuple):
    """An upload that was begun and neither completed nor aborted; C(handle) is the store's own name for it."""

    key: str
    handle: str
    started: datetime


class Upload(Protocol):
    """An object in the making, which nobody sees before C(complete). Not shared between threads."""

    def part(self, number: int, data: bytes | memoryview) -> None:
        """Stores part 1, 2, 3 …, again if need be; all but the last have the size that C(begin) was told."""

    def complete(self) -> None: ...

    def abort(self) -> None: ...


class Store(Protocol):
    """All keys are whole, with the prefix. Every call tries again by itself what may succeed later.

    @raises StoreError: when it gave up, with what the store said
    """

    settings: StoreSettings

    def put(self, key: str, data: bytes) -> None:
        """A small object in one piece, by a conditional request where the store has one: it never replaces another.

        @raises ExistsError: if the key exists with other bytes
        """

    def begin(self, key: str, part_bytes: int) -> Upload: ...

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The object's bytes in pieces of at most 1 MiB; a connection that breaks is taken up where it broke.

        @raises NotFoundError: if there is no such object
        """

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """The objects whose keys begin so, in the order of their keys, in constant memory."""

    def delete(self, keys: Iterable[str]) -> None:
        """What is not there is deleted already. What an object lock still protects raises DeniedError."""

    def unfinished(self, prefix: str) -> Iterator[Unfinished]: ...

    def abort(self, upload: Unfinished) -> None: ...


def disturbance(settings: StoreSettings, said: str) -> StoreError:
    """What kept a request from being answered, in words; all of it passes but a certificate that is not trusted."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return StoreError(
            f"The certificate of {settings.label} is not trusted ({said}): set ca_file to the CA that signed it."
        )
    return StoreError(
        f"{settings.label} cannot be reached, or was cut off: {' '.join(said.split()).rstrip('.')}.", transient=True
    )


# kind of store -> module with open_store(settings) -> Store
STORES = {"s3": "store_s3", "b2": "store_b2", "sftp": "store_sftp", "local": "store_local"}


def open_store(settings: StoreSettings) -> Store:
    """The store of these settings; its client library is imported here and not before."""
    check_store(settings)
    store: Store = importlib.import_module(f".{STORES[settings.kind]}", __package__).open_store(settings)
    return store


def part_bytes(expected_bytes: int) -> int:
    """The size of parts for an object that may become four times as large as expected, in whole MiB."""
    wanted = -(-4 * expected_bytes // PARTS)
    return max(PART_BYTES, -(-wanted // 2**20) * 2**20)


class Reading:
    """An object that is being read; a connection that broke is opened again where it broke.

    @param label: how messages name the store
    """

    def __init__(self, label: str, key: str, start: int) -> None:
        self.label, self.key, self.position = label, key, start
        self.end: int | None = None
        self.source: Any = None

    def open(self) -> bool:
        """Sets C(source), which is closed when it breaks, and C(end); whether there are bytes from here on."""
        raise NotImplementedError

    def next(self) -> bytes:
        """A piece of the open source; empty at its end."""
        raise NotImplementedError

    def piece(self) -> bytes:
        if self.position == self.end:
            return b""
        try:
            if self.source is None and not self.open():
                return b""
            data = self.next()
            if not data and self.position < (self.end or 0):
                raise StoreError(f"{self.label} ended {self.key} too early.", transient=True)
        except StoreError:
            self.close()
            raise
        self.position += len(data)
        return data

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None

    def pieces(self, retry: Callable[[Callable[[], bytes]], bytes]) -> Iterator[bytes]:
        try:
            while data := retry(self.piece):
                yield data
        finally:
            self.close()


# What the first word of a client library's call means for an object.
VERBS = {
    **dict.fromkeys(("put", "create", "upload", "complete", "start", "finish"), "store"),
    **dict.fromkeys(("get", "head", "download"), "read"),
    **dict.fromkeys(("abort", "cancel"), "abort"),
}


def task(operation: str, key: str) -> str:
    """How messages name a call: C(store shop.dump), C(put bucket lifecycle)."""
    first = operation.partition("_")[0]
    if key:
        return f"{VERBS.get(first, first)} {key}"
    return f"{first} objects" if first in ("list", "delete") else operation.replace("_", " ")


def trusted(settings: StoreSettings) -> str | bool:
    """The file with the CAs: else the host's own, because a CA of one's own was added there and not to certifi's."""
    return settings.ca_file or ssl.get_default_verify_paths().cafile or True


def holds(store: Store, key: str, data: bytes) -> bool:
    """Whether an object has just these bytes."""
    rest = memoryview(data)
    for piece in store.read(key):
        if rest[: len(piece)] != piece:
            return False
        rest = rest[len(piece) :]
    return not rest


def put_by_upload(store: Store, key: str, data: bytes) -> None:
    """C(put) for a store whose uploads refuse to replace an object."""
    upload = store.begin(key, max(len(data), 1))
    try:
        upload.part(1, data)
        upload.complete()
    except ExistsError:
        upload.abort()
        # Ours, if the answer to the first try was lost.
        if not holds(store, key, data):
            raise
    except StoreError:
        upload.abort()
        raise

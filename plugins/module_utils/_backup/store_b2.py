# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backblaze B2 by its own interface, by calls of b2sdk that 1.17 (Debian 12) and later releases have in the same form.

An upload that fails gets another upload address in its next try: this is how B2 spreads its load.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from itertools import groupby
from typing import Any, TypeVar

from .errors import DeniedError, ExistsError, NoBucketError, NotFoundError, SettingsError, StoreError
from .retry import Retry
from .settings import StoreSettings
from .stores import PIECE_BYTES, Entry, Reading, Unfinished, disturbance, holds, task, trusted

T = TypeVar("T")

PAGE = 1000
CONTENT_TYPE = "application/octet-stream"
# Reading ends where the file ends.
NO_END = 2**62


class B2Store:
    def __init__(self, settings: StoreSettings, session: Any, retry: Retry) -> None:
        self.settings, self.session, self.retry = settings, session, retry
        self.bucket_id = ""

    def put(self, key: str, data: bytes) -> None:
        if self.size(key) >= 0:
            if holds(self, key, data):
                return
            raise ExistsError(f"{self.settings.label} has {key} already; it is not replaced.")
        self.small(key, data)

    def begin(self, key: str, part_bytes: int) -> B2Upload:
        return B2Upload(self, key, part_bytes)

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        return B2Reading(self, key, start).pieces(self.retry)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        start: str | None = max(prefix, after)
        while start is not None:
            page = self.call("list_file_names", self.bucket, start, PAGE, prefix)
            for item in page["files"]:
                if item["action"] == "upload" and item["fileName"] > after:
                    yield Entry(item["fileName"], item["contentLength"], moment(item))
            start = page["nextFileName"]

    def delete(self, keys: Iterable[str]) -> None:
        """Objects are gone with all their versions, as B2 keeps and charges those that are only hidden."""
        kept = []
        for folder, group in groupby(keys, key=lambda key: key.rpartition("/")[0]):
            for name, file_id in self.versions(f"{folder}/" if folder else "", set(group)):
                try:
                    self.call("delete_file_version", file_id, name)
                except NotFoundError:
                    continue
                except DeniedError as error:
                    kept.append(f"{name} ({error})")
        if kept:
            raise DeniedError(
                f"{self.settings.label} did not delete {len(kept)} objects: an object lock protects them still, "
                f"or the key may not delete: {'; '.join(kept[:3])}"
            )

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        start = None
        while True:
            page = self.call("list_unfinished_large_files", self.bucket, start, 100, prefix)
            for item in page["files"]:
                yield Unfinished(item["fileName"], item["fileId"], moment(item))
            start = page["nextFileId"]
            if start is None:
                return

    def abort(self, upload: Unfinished) -> None:
        # What is not there was finished or cancelled by now.
        with contextlib.suppress(NotFoundError):
            self.call("cancel_large_file", upload.handle)

    @property
    def bucket(self) -> str:
        """The bucket's id; the first time it costs the log-in."""
        if not self.bucket_id:
            self.bucket_id = str(self.retry(self.find_bucket)["bucketId"])
        return self.bucket_id

    def log_in(self) -> str:
        """The account's id."""
        settings = self.settings

        def ask() -> str:
            self.session.authorize_account(settings.endpoint or "production", settings.access_key, settings.secret_key)
            return str(self.session.account_info.get_account_id())

        return guard(settings, ask)

    def find_bucket(self) -> dict[str, Any]:
        """What B2 knows of the bucket.

        @raises NoBucketError: if there is none, or the key may not see it
        """
        account, name = self.log_in(), self.settings.bucket
        found = guard(self.settings, lambda: self.session.list_buckets(account, bucket_name=name))["buckets"]
        for bucket in found:
            known: dict[str, Any] = bucket
            return known
        raise NoBucketError(f"There is no bucket {name} in this B2 account, or its key may not see it.")

    def call(self, operation: str, *words: Any, key: str = "") -> Any:
        """One request, tried again as long as it may succeed later."""
        # Logged in first, and not within the try: its patience is its own.
        _bucket = self.bucket
        return self.attempt(lambda: getattr(self.session, operation)(*words), operation, key)

    def attempt(self, work: Callable[[], T], operation: str, key: str = "") -> T:
        return self.retry(lambda: guard(self.settings, work, operation, key))

    def small(self, key: str, data: bytes | memoryview) -> None:
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        self.call("upload_file", self.bucket, key, len(data), CONTENT_TYPE, sha1, {}, Window(memoryview(data)), key=key)

    def size(self, key: str) -> int:
        """How large an object is, -1 if there is none."""
        for item in self.call("list_file_names", self.bucket, key, 1, key)["files"]:
            if item["fileName"] == key and item["action"] == "upload":
                return int(item["contentLength"])
        return -1

    def versions(self, prefix: str, names: set[str]) -> Iterator[tuple[str, str]]:
        """Name and id of everything that these names had and have."""
        start: tuple[str | None, str | None] = (min(names), None)
        last = max(names)
        while start[0] is not None and start[0] <= last:
            page = self.call("list_file_versions", self.bucket, *start, PAGE, prefix)
            for item in page["files"]:
                if item["fileName"] in names and item["action"] in ("upload", "hide"):
                    yield item["fileName"], item["fileId"]
            start = page["nextFileName"], page["nextFileId"]


class B2Upload:
    """B2 knows large files, of two parts and more, and small ones. So a first part waits for the second."""

    def __init__(self, store: B2Store, key: str, part_bytes: int) -> None:
        self.store, self.key, self.part_bytes = store, key, part_bytes
        self.first = b""
        self.file_id = ""
        self.parts: dict[int, tuple[str, int]] = {}

    def part(self, number: int, data: bytes | memoryview) -> None:
        if number == 1 and not self.file_id:
            self.first = bytes(data)
            return
        if not self.file_id:
            self.file_id = self.store.call(
                "start_large_file", self.store.bucket, self.key, CONTENT_TYPE, {}, key=self.key
            )["fileId"]
            self.send(1, self.first)
            self.first = b""
        self.send(number, data)

    def send(self, number: int, data: bytes | memoryview) -> None:
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        body = Window(memoryview(data))
        self.store.call("upload_part", self.file_id, number, len(data), sha1, body, key=self.key)
        self.parts[number] = sha1, len(data)

    def complete(self) -> None:
        if not self.file_id:
            self.store.small(self.key, self.first)
            return
        parts = [part for number, part in sorted(self.parts.items())]
        try:
            self.store.call("finish_large_file", self.file_id, [sha1 for sha1, size in parts], key=self.key)
        except StoreError:
            # Done already, if the answer to the first try was lost.
            if self.store.size(self.key) != sum(size for sha1, size in parts):
                raise

    def abort(self) -> None:
        if self.file_id:
            self.store.abort(Unfinished(self.key, self.file_id, datetime.now(timezone.utc)))


class Window(io.RawIOBase):
    """Bytes as the file that b2sdk wants to read, without a copy of them."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self.data, self.position = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: len(self.data)}[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        piece = self.data[self.position : self.position + len(buffer)]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


class B2Reading(Reading):
    def __init__(self, store: B2Store, key: str, start: int) -> None:
        super().__init__(store.settings.label, key, start)
        self.store = store
        self.content: Iterator[bytes] = iter(())

    def open(self) -> bool:
        return guard(self.store.settings, self.ask, "download_file", self.key)

    def ask(self) -> bool:
        from b2sdk.v2.exception import UnsatisfiableRange

        _bucket = self.store.bucket
        session = self.store.session
        url = session.get_download_url_by_name(self.store.settings.bucket, self.key)
        try:
            context = session.download_file_from_url(url, (self.position, NO_END) if self.position else None)
        except UnsatisfiableRange:
            return False
        self.source = context.__enter__()
        self.end = self.position + int(self.source.headers["Content-Length"])
        self.content = self.source.iter_content(PIECE_BYTES)
        return True

    def next(self) -> bytes:
        return guard(self.store.settings, lambda: next(self.content, b""), "download_file", self.key)


def guard(settings: StoreSettings, work: Callable[[], T], operation: str = "log_in", key: str = "") -> T:
    """What the work returns; what the libraries raise, in words."""
    from b2sdk.v2.exception import B2Error
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        return work()
    except B2Error as error:
        raise refusal(settings, error, operation, key) from error
    except (RequestException, HTTPError, OSError) as error:
        raise disturbance(settings, str(error)) from error


def refusal(settings: StoreSettings, error: Any, operation: str, key: str) -> StoreError:
    """What B2 answered in place of doing it, in words."""
    from b2sdk.v2 import exception as b2

    where, wanted = settings.label, task(operation, key)
    said = " ".join(str(error).split())
    if isinstance(error, b2.ClockSkew):
        return StoreError(f"This host's clock is not that of {where} ({said}): set the clock (chrony).")
    if isinstance(error, b2.FileNotPresent) or type(error).__name__ == "ResourceNotFound":
        return NotFoundError(f"{where} has no {key or 'such object'}.")
    if isinstance(error, b2.InvalidAuthToken):
        return DeniedError(f"{where} does not take this key: correct access_key and secret_key, or make a new one.")
    denied = isinstance(error, (b2.Unauthorized, b2.AccessDenied, b2.SSECKeyError, b2.RestrictedBucket))
    if denied or (isinstance(error, b2.UnknownError) and re.search(r"\b40[13] ", said)):
        if operation == "log_in":
            return DeniedError(f"{where} does not take this key, or it is for another bucket ({said}).")
        return DeniedError(f"{where} does not allow this key to {wanted} ({said}).")
    if isinstance(error, (b2.StorageCapExceeded, b2.TransactionCapExceeded, b2.CapExceeded)):
        return StoreError(f"{where} is full: the account's cap is reached ({said}): raise it, or prune.")
    if isinstance(error, b2.B2ConnectionError):
        return disturbance(settings, said)
    # An answer that is not B2's own, such as a page of a proxy on the way, has no known code.
    strange = isinstance(error, b2.UnknownError) and not re.search(r"\b4\d\d ", said)
    if strange or error.should_retry_http() or error.should_retry_upload():
        asked = str(getattr(error, "retry_after_seconds", "") or "")
        seconds = float(asked) if asked.isdigit() else 0
        return StoreError(f"{where} could not {wanted} now ({said}).", transient=True, after_seconds=seconds)
    return StoreError(f"{where} refused to {wanted} ({said}).")


def retention(mode: str, days: int) -> Any:
    """What a bucket's files are kept by unless they say otherwise."""
    from b2sdk.v2 import BucketRetentionSetting, RetentionMode, RetentionPeriod

    return BucketRetentionSetting(RetentionMode(mode), RetentionPeriod(days=days))


def moment(item: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(item["uploadTimestamp"] / 1000, timezone.utc)


def make_session(settings: StoreSettings) -> Any:
    """A session that tries nothing again by itself and keeps nothing on the disk."""
    try:
        import requests
        from b2sdk.v2 import B2Http, B2HttpApiConfig, B2Session, InMemoryAccountInfo
    except ImportError as error:
        raise SettingsError("B2 stores need b2sdk: install python3-b2sdk (Debian, Ubuntu) or b2sdk.") from error

    class Once(B2Http):  # type: ignore[misc]
        @classmethod
        def _translate_and_retry(cls, work: Any, tries: int, *rest: Any, **words: Any) -> Any:
            return super()._translate_and_retry(work, 1, *rest, **words)

    class Session(B2Session):  # type: ignore[misc]
        B2HTTP_CLASS = staticmethod(Once)

    class Http(requests.Session):
        def request(self, *rest: Any, **words: Any) -> Any:
            # With each request: what requests finds in the environment would count more than the session's own.
            return super().request(*rest, **{**words, "verify": trusted(settings)})

    return Session(InMemoryAccountInfo(), api_config=B2HttpApiConfig(http_session_factory=Http))


def open_store(settings: StoreSettings) -> B2Store:
    return B2Store(settings, make_session(settings), Retry(settings.patience_seconds))

# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""S3 and what speaks like it, by botocore: boto3's own client, without the layers above it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from itertools import groupby, islice
from typing import Any, TypeVar

from .errors import DeniedError, ExistsError, NoBucketError, NotFoundError, SettingsError, StoreError, UnsupportedError
from .retry import Retry
from .settings import StoreSettings
from .stores import PIECE_BYTES, Entry, Reading, Unfinished, disturbance, holds, task, trusted

T = TypeVar("T")

# As many as one request deletes or lists.
PAGE = 1000
CONDITIONAL = "before-call.s3.PutObject"
SKEW_SECONDS = 900

GONE = ("NoSuchKey", "NoSuchVersion", "NotFound", "404")
NO_UPLOAD = ("NoSuchUpload",)
WRONG_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "UnauthorizedAccess")
EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired")
SUSPENDED = ("AllAccessDisabled", "AccountProblem", "UserSuspended", "NotSignedUp", "AccountSuspended")
FULL = ("QuotaExceeded", "InsufficientStorage", "EntityTooLarge", "StorageCapExceeded", "InsufficientCapacity")
WRONG_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
# What may succeed in the next try although its status is not one of the server's own errors.
TRANSIENT = (
    *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "RequestTimeout"),
    *("InternalError", "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict", "IncompleteBody"),
    # Bytes that were changed on their way.
    *("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
)
NEVER_TRANSIENT = (501, 505, 507)


class PastEndError(StoreError):
    """An object has no more bytes than those before."""


class S3Store:
    def __init__(self, settings: StoreSettings, client: Any, retry: Retry) -> None:
        self.settings, self.client, self.retry = settings, client, retry
        self.versioned: bool | None = None

    def put(self, key: str, data: bytes) -> None:
        words = {"Body": memoryview(data), "ContentMD5": md5(data)}
        try:
            try:
                self.call("put_object", key, **words)
            except UnsupportedError:
                # B2 has no conditional requests.
                self.client.meta.events.unregister(CONDITIONAL, never_replace)
                self.must_be_new(key)
                self.call("put_object", key, **words)
        except ExistsError:
            # Ours, if the answer to the first try was lost.
            if not holds(self, key, data):
                raise

    def begin(self, key: str, part_bytes: int) -> S3Upload:
        return S3Upload(self, key, part_bytes)

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        return S3Reading(self, key, start).pieces(self.retry)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        more = True
        while more:
            page = self.call("list_objects_v2", Prefix=prefix, StartAfter=after, MaxKeys=PAGE)
            for item in page.get("Contents", ()):
                after = item["Key"]
                yield Entry(after, item["Size"], item["LastModified"].astimezone(timezone.utc))
            more = page.get("IsTruncated", False)

    def delete(self, keys: Iterable[str]) -> None:
        """Objects are gone with all their versions. One that is only hidden would be kept, and paid for, for ever."""
        wanted = iter(keys)
        kept = []
        while batch := [*islice(wanted, PAGE)]:
            objects = with_versions(self, batch) if self.is_versioned() else [{"Key": key} for key in batch]
            kept += delete_named(self, objects)
        if kept:
            raise DeniedError(
                f"{self.settings.label} did not delete {len(kept)} objects: an object lock protects them still, "
                f"or the key may not delete: {'; '.join(kept[:3])}."
            )

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        where: dict[str, str] = {}
        while True:
            page = self.call("list_multipart_uploads", Prefix=prefix, MaxUploads=PAGE, **where)
            for item in page.get("Uploads", ()):
                if item["Key"].startswith(prefix):
                    yield Unfinished(item["Key"], item["UploadId"], item["Initiated"].astimezone(timezone.utc))
            if not page.get("IsTruncated"):
                return
            where = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort(self, upload: Unfinished) -> None:
        # What is not there was completed or aborted by now.
        with contextlib.suppress(NotFoundError):
            self.call("abort_multipart_upload", upload.key, UploadId=upload.handle)

    def must_be_new(self, key: str) -> None:
        """@raises ExistsError: if there is such an object"""
        with contextlib.suppress(NotFoundError):
            self.call("head_object", key)
            raise ExistsError(f"{self.settings.label} has {key} already; it is not replaced.")

    def is_versioned(self) -> bool:
        if self.versioned is None:
            try:
                self.versioned = "Status" in self.call("get_bucket_versioning")
            except (DeniedError, UnsupportedError):
                # Stores without versions do not know the question; a key that may not ask may not delete versions.
                self.versioned = False
        return self.versioned

    def call(self, operation: str, key: str = "", **words: Any) -> Any:
        """One request, tried again as long as it may succeed later."""
        return self.retry(lambda: self.once(operation, key, **words))

    def once(self, operation: str, key: str = "", **words: Any) -> Any:
        where = {"Bucket": self.settings.bucket, **({"Key": key} if key else {})}
        return self.guard(lambda: getattr(self.client, operation)(**where, **words), operation, key)

    def guard(self, work: Callable[[], T], operation: str = "", key: str = "") -> T:
        """What the work returns; what the library raises, in words."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            return work()
        except ClientError as error:
            raise refusal(self.settings, error.response, operation, key) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise disturbance(self.settings, str(error)) from error


class S3Upload:
    """An upload in parts; what is shorter than one part is put as a whole, which is one request in place of three."""

    def __init__(self, store: S3Store, key: str, part_bytes: int) -> None:
        self.store, self.key, self.part_bytes = store, key, part_bytes
        self.upload = ""
        self.whole = b""
        self.parts: dict[int, tuple[str, int]] = {}

    def part(self, number: int, data: bytes | memoryview) -> None:
        if number == 1 and len(data) < self.part_bytes:
            self.whole = bytes(data)
            return
        self.upload = self.upload or self.store.call("create_multipart_upload", self.key)["UploadId"]
        # As a memoryview it is sent as it is; bytes would be wrapped into a file and read in small pieces.
        body = memoryview(data)
        words = {"UploadId": self.upload, "PartNumber": number, "ContentMD5": md5(data)}
        answer = self.store.call("upload_part", self.key, Body=body, **words)
        self.parts[number] = answer["ETag"], len(data)

    def complete(self) -> None:
        if not self.upload:
            self.store.put(self.key, self.whole)
            return
        parts = [{"PartNumber": number, "ETag": tag} for number, (tag, size) in sorted(self.parts.items())]
        try:
            self.store.call(
                "complete_multipart_upload", self.key, UploadId=self.upload, MultipartUpload={"Parts": parts}
            )
        except NotFoundError:
            # Done already, if the answer to the first try was lost.
            if self.store.call("head_object", self.key)["ContentLength"] != sum(
                size for tag, size in self.parts.values()
            ):
                raise

    def abort(self) -> None:
        if self.upload:
            self.store.abort(Unfinished(self.key, self.upload, datetime.now(timezone.utc)))


class S3Reading(Reading):
    def __init__(self, store: S3Store, key: str, start: int) -> None:
        super().__init__(store.settings.label, key, start)
        self.store = store
        self.tag = ""

    def open(self) -> bool:
        words = {"Range": f"bytes={self.position}-"} if self.position else {}
        try:
            answer = self.store.once("get_object", self.key, **words)
        except PastEndError:
            return False
        if self.tag and answer.get("ETag") != self.tag:
            raise StoreError(f"{self.key} in {self.label} was replaced while it was read.")
        self.tag, self.source = answer.get("ETag", ""), answer["Body"]
        self.end = self.position + answer["ContentLength"]
        return True

    def next(self) -> bytes:
        data: bytes = self.store.guard(lambda: self.source.read(PIECE_BYTES))
        return data


def with_versions(store: S3Store, keys: list[str]) -> list[dict[str, str]]:
    """Every version of these keys, the markers of deleted ones among them; by one listing for each folder."""
    found = []
    for folder, group in groupby(sorted(keys), key=lambda key: key.rpartition("/")[0]):
        names = list(group)
        # From shortly before the first name, as a listing begins after its mark.
        where = {"Prefix": f"{folder}/" if folder else "", "KeyMarker": names[0][:-1]}
        more = True
        while more:
            page = store.call("list_object_versions", **where)
            items = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            found += [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in items if one["Key"] in names]
            last = page.get("NextKeyMarker", "")
            more = page.get("IsTruncated", False) and last <= names[-1]
            where |= {"KeyMarker": last, "VersionIdMarker": page.get("NextVersionIdMarker", "")}
    return found


def delete_named(store: S3Store, objects: list[dict[str, str]]) -> list[str]:
    """Deletes them and gives a line for each that the store kept."""
    kept = []

    def attempt() -> None:
        nonlocal objects
        answer = store.once("delete_objects", "", Delete={"Objects": objects[:PAGE], "Quiet": True})
        again = []
        for item in answer.get("Errors", ()):
            code = item.get("Code", "")
            if code in TRANSIENT:
                again.append({name: item[name] for name in ("Key", "VersionId") if item.get(name)})
            elif code not in GONE:
                kept.append(f"{item['Key']} ({code} {item.get('Message', '')})".replace(" )", ")"))
        objects = again + objects[PAGE:]
        if again:
            raise StoreError(f"{store.settings.label} did not delete {len(again)} objects yet.", transient=True)

    while objects:
        store.retry(attempt)
    return kept


def refusal(settings: StoreSettings, answer: Mapping[str, Any], operation: str, key: str) -> StoreError:
    """What a store answered in place of doing it, in words."""
    where, wanted = settings.label, task(operation, key)
    code, said = (str(answer.get("Error", {}).get(name) or "") for name in ("Code", "Message"))
    state = answer.get("ResponseMetadata", {})
    status, headers = int(state.get("HTTPStatusCode", 0)), state.get("HTTPHeaders", {})
    why = " ".join(word for word in (str(status), code, said) if word)
    off = skew_seconds(headers.get("date", ""))
    # A wrong clock looks like a wrong key to some.
    if code == "RequestTimeTooSkewed" or (status == 403 and abs(off) > SKEW_SECONDS):
        by = f"{abs(off) / 60:.0f} minutes {'ahead of' if off > 0 else 'behind'}" if off else "too far from"
        return StoreError(f"This host's clock is {by} that of {where}, so it takes no request: set the clock (chrony).")
    if status == 412 or code == "PreconditionFailed":
        return ExistsError(f"{where} has {key} already; it is not replaced.")
    if status == 416:
        return PastEndError(f"{where} has no byte of {key} there.")
    if code == "NoSuchBucket":
        return NoBucketError(
            f"There is no bucket {settings.bucket} at {where}: create it, or correct its name and region."
        )
    if code in GONE or code in NO_UPLOAD or status == 404:
        return NotFoundError(f"{where} has no {key or 'such object'}{' in the making' if code in NO_UPLOAD else ''}.")
    if code in WRONG_KEY:
        return DeniedError(f"{where} does not take this key ({code}): correct access_key and secret_key.")
    if code in EXPIRED:
        return DeniedError(f"The key for {where} has expired ({code}): make a new one.")
    if code in SUSPENDED:
        return DeniedError(f"The account at {where} is suspended ({code}): see the provider's console.")
    if code in FULL or status == 507:
        return StoreError(f"{where} is full ({why}): raise its limit, or prune.")
    if code in WRONG_REGION:
        return StoreError(f"The bucket {settings.bucket} is in another region than {settings.region} ({why}).")
    if code in TRANSIENT or (status >= 500 and status not in NEVER_TRANSIENT) or status in (408, 429):
        return StoreError(f"{where} could not {wanted} now ({why}).", transient=True, after_seconds=wait(headers))
    if status in (405, 501) or code == "NotImplemented":
        return UnsupportedError(f"{where} cannot {wanted} ({why}).")
    if status in (401, 403):
        return DeniedError(f"{where} does not allow this key to {wanted} ({why}).")
    if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
        return StoreError(f"{where} does not have the parts that were sent to it ({why}), so it could not {wanted}.")
    return StoreError(f"{where} refused to {wanted} ({why}).")


def skew_seconds(date: str) -> float:
    """How far this host's clock is ahead of the store's."""
    try:
        return (datetime.now(timezone.utc) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return 0


def wait(headers: Mapping[str, str]) -> float:
    """How long the store asks to wait: seconds, or the time when."""
    asked = headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else max(-skew_seconds(asked), 0)


def prepare(params: dict[str, Any], **rest: Any) -> None:
    """The last look at a request: MD5 sums, which all stores check, in place of newer sums that many refuse."""
    headers, body = params["headers"], params["body"]
    params["context"].pop("checksum", None)
    for name in [name for name in headers if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum-"))]:
        del headers[name]
    if body and "Content-MD5" not in headers:
        headers["Content-MD5"] = md5(body)


def never_replace(params: dict[str, Any], **rest: Any) -> None:
    """Set here, because the botocore of Debian 12 does not know it."""
    params["headers"]["If-None-Match"] = "*"


def md5(data: bytes | memoryview) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def moment(value: Any) -> datetime:
    """A time in an answer. Listings are full of them, and botocore's own way to read them takes most of their time."""
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        from botocore.utils import parse_timestamp

        found: datetime = parse_timestamp(value)
        return found


def make_client(settings: StoreSettings) -> Any:
    """A client that tries nothing again by itself and reads no settings of its own from this host."""
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise SettingsError("S3 stores need botocore: install python3-botocore (Debian, Ubuntu) or boto3.") from error
    # Of each: name in a config file, in the environment, default.
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    session = botocore.session.Session(session_vars={**files, "profile": (None, None, None, None)})
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    client = session.create_client(
        "s3",
        endpoint_url=settings.address,
        region_name="auto" if settings.provider == "r2" else settings.region or "us-east-1",
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        verify=trusted(settings),
        config=Config(
            signature_version="s3v4",
            connect_timeout=20,
            read_timeout=120,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # It would refuse a memoryview, and a part is not to be copied.
            parameter_validation=False,
            s3={"addressing_style": "path" if settings.provider == "custom" else "auto"},
        ),
    )
    client.meta.events.register("before-call.s3", prepare)
    client.meta.events.register(CONDITIONAL, never_replace)
    return client


def open_store(settings: StoreSettings) -> S3Store:
    return S3Store(settings, make_client(settings), Retry(settings.patience_seconds))

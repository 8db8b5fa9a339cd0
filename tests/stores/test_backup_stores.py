"""The backup library's stores against real servers, and what they do when those misbehave."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import store_s3
from plugins.module_utils._backup.errors import DeniedError, NotFoundError, StoreError
from plugins.module_utils._backup.stores import Store, Upload
from stores.stores import B2Store, RgwStore, SftpStore
from tests.stores.conformance import MIB, PART, Conformance, Opener, content, hurried, keys, unique

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder() -> str:
    """A place in a store that no other test uses."""
    return f"backups/{uuid.uuid4().hex}/"


class TestS3(Conformance):
    @pytest.fixture
    def store(self, open_s3: Opener, s3_bucket: str) -> Store:
        return open_s3(bucket=s3_bucket)


class TestB2(Conformance):
    @pytest.fixture
    def store(self, open_b2: Opener, b2_bucket: str) -> Store:
        return open_b2(bucket=b2_bucket)


class TestSftp(Conformance):
    @pytest.fixture
    def store(self, open_sftp: Opener) -> Store:
        return open_sftp()


# -- What both object stores do when the line or the server is bad ----------------------------------------------------


def uploaded(store: Store, key: str, parts: list[bytes]) -> Upload:
    upload = store.begin(key, PART)
    for number, part in enumerate(parts, 1):
        upload.part(number, part)
    return upload


def requests(faulty: Any, method: str = "", path: str = "") -> int:
    """How many requests the proxy has seen since its rules were set."""
    return sum(one["method"].startswith(method) and path in one["path"] for one in faulty.faults.log())


class Faults:
    """C(server) is behind the proxy, C(store) is opened through it; the names of requests are the provider's."""

    PUT = GET = LIST = DELETE = BEGIN = PART = COMPLETE = ""

    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_what_passes_is_tried_again(self, server: Any, store: Store, folder: str, status: int) -> None:
        parts = [os.urandom(PART), b"rest"]
        paths = (self.PUT, self.LIST, self.BEGIN, self.PART, self.COMPLETE, self.DELETE, self.GET)
        server.faults.set(*[{"do": "answer", "status": status, "path": path, "count": 3} for path in paths])
        store.put(f"{folder}small", b"small")
        uploaded(store, f"{folder}large", parts).complete()
        assert content(store, f"{folder}large") == b"".join(parts)
        assert keys(store, folder) == [f"{folder}large", f"{folder}small"]
        store.delete([f"{folder}small", f"{folder}large"])
        assert sum(one["status"] == status for one in server.faults.log()) == 3 * len(paths)
        assert keys(store, folder) == []

    def test_what_does_not_pass_is_asked_once(self, server: Any, store: Store, folder: str) -> None:
        store.put(f"{folder}a", b"x")
        server.faults.set({"do": "answer", "status": 403, "path": self.GET})
        with pytest.raises(DeniedError, match="does not allow"):
            content(store, f"{folder}a")
        server.faults.set({"do": "answer", "status": 404, "code": "NoSuchKey", "path": self.GET})
        with pytest.raises(NotFoundError):
            content(store, f"{folder}a")
        assert requests(server, path="a") == 1

    def test_a_store_that_stays_away_is_given_up(self, server: Any, store: Store, folder: str) -> None:
        hurried(store, patience_seconds=1)
        server.faults.set({"do": "answer", "status": 503})
        with pytest.raises(StoreError, match=r"503.*Given up after .* tries"):
            store.put(f"{folder}a", b"x")
        server.faults.set({"do": "down"})
        with pytest.raises(StoreError, match=r"cannot be reached.*Given up"):
            keys(store, folder)

    def test_a_store_that_comes_back_is_waited_for(self, server: Any, store: Store, folder: str) -> None:
        server.faults.set({"do": "down"})
        timer = threading.Timer(1, server.faults.set)
        timer.start()
        store.put(f"{folder}a", b"x")
        timer.join()
        assert content(store, f"{folder}a") == b"x"

    def test_a_part_that_is_cut_is_sent_again(self, server: Any, store: Store, folder: str) -> None:
        parts = [os.urandom(PART), os.urandom(MIB)]
        server.faults.set({"do": "cut_request", "path": self.PART, "bytes": 2 * MIB, "count": 1})
        uploaded(store, f"{folder}a", parts).complete()
        assert content(store, f"{folder}a") == b"".join(parts)

    def test_reading_goes_on_where_it_was_cut(self, server: Any, store: Store, folder: str) -> None:
        data = os.urandom(4 * MIB + 100)
        store.put(f"{folder}a", data)
        server.faults.set(*[{"do": "cut_answer", "path": self.GET, "bytes": size, "count": 1} for size in (0, MIB + 5)])
        assert content(store, f"{folder}a") == data
        assert requests(server, path=f"{folder}a") == 3

    def test_answers_that_are_lost(self, server: Any, store: Store, folder: str) -> None:
        parts = [os.urandom(PART), b"rest"]
        lost = [{"do": "lose_answer", "path": path, "count": 1} for path in (self.PUT, self.PART, self.COMPLETE)]
        server.faults.set(*lost)
        store.put(f"{folder}small", b"small")
        uploaded(store, f"{folder}large", parts).complete()
        assert content(store, f"{folder}small") == b"small"
        assert content(store, f"{folder}large") == b"".join(parts)
        server.faults.set({"do": "lose_answer", "path": self.DELETE, "count": 1})
        store.delete([f"{folder}small", f"{folder}large"])
        assert keys(store, folder) == []

    def test_slow_lines_are_no_fault(self, server: Any, store: Store, folder: str) -> None:
        server.faults.set({"do": "slow", "rate": 2 * MIB})
        data = os.urandom(MIB)
        store.put(f"{folder}a", data)
        assert content(store, f"{folder}a") == data

    def test_a_wrong_clock_is_named(self, server: Any, store: Store, folder: str) -> None:
        server.faults.set({"do": "skew", "seconds": 1200})
        with pytest.raises(StoreError, match="clock"):
            store.put(f"{folder}a", b"x")

    def test_a_killed_upload_leaves_nothing_to_see(self, server: Any, store: Store, folder: str) -> None:
        code = (
            "import sys, json\n"
            "from plugins.module_utils._backup import settings, stores\n"
            "store = stores.open_store(settings.StoreSettings(**json.load(sys.stdin)))\n"
            f"upload = store.begin({folder + 'a'!r}, {PART})\n"
            "for number in range(1, 99):\n"
            f"    upload.part(number, bytes({PART}))\n"
            "    print(number, flush=True)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdin
        assert child.stdout
        child.stdin.write(json.dumps(dataclasses.asdict(store.settings)))
        child.stdin.close()
        assert [child.stdout.readline() for _number in range(3)] == ["1\n", "2\n", "3\n"]
        child.kill()
        child.wait()
        child.stdout.close()
        assert keys(store, folder) == []
        [left] = store.unfinished(folder)
        store.abort(left)
        assert list(store.unfinished(folder)) == []


class TestS3Faults(Faults):
    PUT, GET, LIST, DELETE = "small$", "^/[^?]*large$|^/[^?]*/a$", r"\?list-type=2", r"\?delete"
    BEGIN, PART, COMPLETE = r"\?uploads", "partNumber=2", r"large\?uploadId="

    @pytest.fixture
    def server(self, s3: RgwStore) -> Iterator[RgwStore]:
        s3.faults.set()
        yield s3
        s3.faults.set()

    @pytest.fixture
    def store(self, server: RgwStore, open_s3: Opener, s3_bucket: str) -> Store:
        return open_s3(bucket=s3_bucket, endpoint=server.faulty_endpoint)


class TestB2Faults(Faults):
    PUT, GET, LIST, DELETE = "/upload-", "/file/", "b2_list_file_names", "b2_delete_file_version"
    BEGIN, PART, COMPLETE = "b2_start_large_file", "/upload-", "b2_finish_large_file"

    @pytest.fixture
    def server(self, native_b2: B2Store) -> Iterator[B2Store]:
        native_b2.faults.set()
        yield native_b2
        native_b2.faults.set()

    @pytest.fixture
    def store(self, server: B2Store, open_b2: Opener, b2_bucket: str) -> Store:
        return open_b2(bucket=b2_bucket, endpoint=server.faulty_endpoint)


# -- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"secret_key": "not-the-secret"}, "SignatureDoesNotMatch.*correct access_key and secret_key"),
        ({"access_key": "BULWARKTESTNOBODY001"}, "InvalidAccessKeyId"),
        ({"bucket": "no-such-bucket"}, "no bucket no-such-bucket"),
        ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "not trusted.*ca_file"),
    ],
)
def test_s3_says_which_setting_is_wrong(open_s3: Opener, s3_bucket: str, wrong: dict[str, str], said: str) -> None:
    store = open_s3(**{"bucket": s3_bucket, **wrong})
    for attempt in (lambda: store.put("a", b"x"), lambda: keys(store, ""), lambda: content(store, "a")):
        with pytest.raises(StoreError, match=said):
            attempt()


def test_s3_providers_may_be_strict(s3: RgwStore, open_s3: Opener, s3_bucket: str, folder: str) -> None:
    """R2 wants parts of one size, B2 refuses the newer checksums, and no store wants another try of a good request."""
    store, data = open_s3(bucket=s3_bucket, endpoint=s3.faulty_endpoint), os.urandom(PART)
    try:
        for rule in ({"do": "equal_parts"}, {"do": "refuse_header"}):
            s3.faults.set(rule)
            uploaded(store, f"{folder}large", [data, data, b"rest"]).complete()
            store.put(f"{folder}small", b"x")
            assert content(store, f"{folder}large") == data * 2 + b"rest"
            store.delete(keys(store, folder))
            assert not list(store.unfinished(folder))
            assert {one["status"] for one in s3.faults.log()} <= {200, 204}
    finally:
        s3.faults.set()


def test_s3_without_conditional_requests(s3: RgwStore, open_s3: Opener, s3_bucket: str, folder: str) -> None:
    store = open_s3(bucket=s3_bucket, endpoint=s3.faulty_endpoint)
    unknown = {"do": "answer", "status": 501, "code": "NotImplemented", "method": "PUT", "count": 1}
    s3.faults.set(unknown, {"do": "refuse_header", "header": "If-None-Match"})
    try:
        for name in ("a", "b"):
            store.put(f"{folder}{name}", b"x")
        assert keys(store, folder) == [f"{folder}a", f"{folder}b"]
    finally:
        s3.faults.set()


def test_s3_says_that_it_is_full(s3: RgwStore, open_s3: Opener) -> None:
    name = unique()
    s3.client().create_bucket(Bucket=name)
    store = open_s3(bucket=name)
    store.put("a", bytes(MIB))
    s3.set_quota(name, 2 * MIB)
    with pytest.raises(StoreError, match=r"is full.*raise its limit, or prune"):
        uploaded(store, "b", [bytes(PART), b"x"]).complete()
    assert keys(store, "") == ["a"]


def test_s3_keys_that_may_not_delete(s3: RgwStore, open_s3: Opener) -> None:
    client, name = s3.client(), unique()
    client.create_bucket(Bucket=name)
    client.put_bucket_policy(Bucket=name, Policy=s3.append_only_policy(name))
    store = open_s3(bucket=name, **s3.writer._asdict())
    store.put("a", b"x")
    uploaded(store, "b", [bytes(PART), b"x"]).complete()
    uploaded(store, "c", [bytes(PART), b"x"]).abort()
    with pytest.raises(DeniedError, match="does not allow this key to delete objects"):
        store.delete(["a", "b"])
    assert keys(store, "") == ["a", "b"]


def test_s3_versions_are_deleted_too(s3: RgwStore, open_s3: Opener) -> None:
    client, name = s3.client(), unique()
    client.create_bucket(Bucket=name)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    store = open_s3(bucket=name)
    for key in ("a/1", "a/2", "b"):
        client.put_object(Bucket=name, Key=key, Body=b"old")
        client.delete_object(Bucket=name, Key=key)
        store.put(key, b"new")
    store.delete(["b", "a/1", "never"])
    left = client.list_object_versions(Bucket=name)
    assert {one["Key"] for one in left["Versions"] + left.get("DeleteMarkers", [])} == {"a/2"}
    assert keys(store, "") == ["a/2"]


def test_s3_says_what_a_lock_protects(s3: RgwStore, open_s3: Opener) -> None:
    client, name = s3.client(), unique()
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    store = open_s3(bucket=name)
    store.put("a", b"x")
    uploaded(store, "b", [bytes(PART), b"x"]).complete()
    with pytest.raises(DeniedError, match="did not delete 2 objects: an object lock"):
        store.delete(["a", "b"])
    assert keys(store, "") == ["a", "b"]
    assert content(store, "a") == b"x"


def test_s3_has_more_than_a_page(
    s3: RgwStore, open_s3: Opener, s3_bucket: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_s3(bucket=s3_bucket, endpoint=s3.faulty_endpoint)
    page = 1000 if os.environ.get("BULWARK_FULL") else 100
    monkeypatch.setattr(store_s3, "PAGE", page)
    names = [f"{folder}{number:05}" for number in range(2 * page + 5)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: store.put(name, b"x"), names))
    s3.faults.set()
    assert keys(store, folder) == names
    assert keys(store, folder, names[page + 50]) == names[page + 51 :]
    assert requests(s3, "GET", "list-type=2") == 4
    store.delete(names)
    assert keys(store, folder) == []
    assert requests(s3, "POST", "delete") == 3


# -- B2 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"secret_key": "not-the-secret"}, "does not take this key"),
        ({"access_key": "nobody"}, "does not take this key"),
        ({"bucket": "no-such-bucket"}, "no bucket no-such-bucket"),
        ({"ca_file": "/etc/ssl/certs/ca-certificates.crt"}, "not trusted.*ca_file"),
    ],
)
def test_b2_says_which_setting_is_wrong(open_b2: Opener, b2_bucket: str, wrong: dict[str, str], said: str) -> None:
    store = open_b2(**{"bucket": b2_bucket, **wrong})
    for attempt in (lambda: store.put("a", b"x"), lambda: keys(store, ""), lambda: content(store, "a")):
        with pytest.raises(StoreError, match=said):
            attempt()


def test_b2_gives_another_address_when_one_is_busy(
    native_b2: B2Store, open_b2: Opener, b2_bucket: str, folder: str
) -> None:
    store, parts = open_b2(bucket=b2_bucket), [os.urandom(PART), os.urandom(PART), b"rest"]
    native_b2.control(busy=2)
    store.put(f"{folder}small", b"x")
    upload = store.begin(f"{folder}large", PART)
    for number, part in enumerate(parts, 1):
        native_b2.control(busy=1)
        upload.part(number, part)
    upload.complete()
    assert content(store, f"{folder}large") == b"".join(parts)


def test_b2_logs_in_again_after_a_day(native_b2: B2Store, open_b2: Opener, b2_bucket: str, folder: str) -> None:
    store, part = open_b2(bucket=b2_bucket), os.urandom(PART)
    upload = uploaded(store, f"{folder}large", [part, part])
    native_b2.control(expire=True)
    upload.part(3, b"rest")
    native_b2.control(expire=True)
    upload.complete()
    native_b2.control(expire=True)
    assert content(store, f"{folder}large") == part * 2 + b"rest"
    native_b2.control(expire=True)
    assert keys(store, folder) == [f"{folder}large"]


def test_b2_keys_that_may_not_delete(open_b2: Opener, b2_bucket: str, folder: str) -> None:
    owner = open_b2(bucket=b2_bucket)
    bucket_id = owner.bucket  # type: ignore[attr-defined]
    may = ["listBuckets", "listFiles", "readFiles", "writeFiles"]
    key = make_b2_key(owner, may, bucket_id)
    store = open_b2(bucket=b2_bucket, **key)
    store.put(f"{folder}a", b"x")
    uploaded(store, f"{folder}b", [bytes(PART), b"x"]).complete()
    with pytest.raises(DeniedError, match=r"did not delete 1 objects.*may not delete: backups/.*/a"):
        store.delete([f"{folder}a"])
    assert keys(store, folder) == [f"{folder}a", f"{folder}b"]
    only_write = open_b2(bucket=b2_bucket, **make_b2_key(owner, ["listBuckets", "listFiles", "writeFiles"], bucket_id))
    with pytest.raises(DeniedError, match=r"does not allow this key to read backups/.*/a"):
        content(only_write, f"{folder}a")


def make_b2_key(owner: Any, may: list[str], bucket_id: str) -> dict[str, str]:
    session = owner.session
    account = session.account_info.get_account_id()
    made = session.raw_api._post_json(
        session.account_info.get_api_url(),
        "b2_create_key",
        session.account_info.get_account_auth_token(),
        accountId=account,
        capabilities=may,
        keyName="test",
        bucketId=bucket_id,
    )
    return {"access_key": made["applicationKeyId"], "secret_key": made["applicationKey"]}


# -- SFTP -------------------------------------------------------------------------------------------------------------


def test_sftp_goes_on_when_the_line_is_cut(box: SftpStore, open_sftp: Opener, folder: str) -> None:
    store, part = open_sftp(), os.urandom(PART)
    upload = store.begin(f"{folder}a", PART)
    upload.part(1, part)
    box.cut()
    upload.part(2, part)
    box.cut()
    upload.part(3, b"rest")
    upload.complete()
    reading, read = store.read(f"{folder}a"), b""
    for number, piece in enumerate(reading):
        read += piece
        if number in (2, 5):
            box.cut()
    assert read == part * 2 + b"rest"
    box.cut()
    assert keys(store, folder) == [f"{folder}a"]


def test_sftp_cut_in_the_middle_of_a_part(box: SftpStore, open_sftp: Opener, folder: str) -> None:
    store, part = open_sftp(), os.urandom(24 * MIB)
    upload = store.begin(f"{folder}a", len(part))
    timer = threading.Timer(0.05, box.cut)
    timer.start()
    upload.part(1, part)
    timer.join()
    upload.complete()
    assert content(store, f"{folder}a") == part
    store.delete([f"{folder}a"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"user": "nobody"}, "does not take the key"),
        ({"path": "/other"}, "does not allow"),
        ({"port": 1}, "cannot be reached"),
    ],
)
def test_sftp_says_which_setting_is_wrong(open_sftp: Opener, wrong: dict[str, Any], said: str) -> None:
    store = hurried(open_sftp(**wrong), patience_seconds=0)
    with pytest.raises(StoreError, match=said):
        store.put("a", b"x")


def test_sftp_trusts_no_host_that_is_not_known(box: SftpStore, open_sftp: Opener, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    with pytest.raises(StoreError, match=r"is not in .*known_hosts"):
        open_sftp(known_hosts_file=str(known)).put("a", b"x")
    assert known.read_text() == ""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    key = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    known.write_text(f"[{box.ip}]:23 {key}\n")
    with pytest.raises(StoreError, match=r"is not the one in .*known_hosts: ask the provider"):
        open_sftp(known_hosts_file=str(known)).put("a", b"x")
    with pytest.raises(DeniedError, match="does not take the key"):
        open_sftp(key_file=str(tmp_path / "other")).put("a", b"x")


def test_sftp_says_that_it_is_full(box: SftpStore, open_sftp: Opener, folder: str) -> None:
    store = open_sftp()
    upload = store.begin(f"{folder}a", PART)
    box.leave_free(2 * MIB)
    try:
        with pytest.raises(StoreError, match="is full: make room, or prune"):
            upload.part(1, bytes(PART))
    finally:
        box.free_all()
    upload.abort()
    assert keys(store, folder) == []
    assert list(store.unfinished(folder)) == []

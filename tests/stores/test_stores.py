"""The stores of the other tests are as strict as real ones, and their faults are what they are called."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import b2sdk.v2 as b2
import b2sdk.v2.exception as b2_errors
import paramiko
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hosts import hosts

from stores.stores import CA, B2Store, Keys, RgwStore, SftpStore

MIB = 1 << 20


@pytest.fixture
def bucket(s3: RgwStore) -> str:
    name = f"test-{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name)
    return name


def refused(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


# -- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (Keys("BULWARKTESTOWNER0001", "not-the-secret"), "SignatureDoesNotMatch"),
        (Keys("BULWARKTESTNOBODY001", "not-the-secret"), "InvalidAccessKeyId"),
    ],
)
def test_s3_refuses_wrong_keys(s3: RgwStore, bucket: str, keys: Keys, said: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.client(keys).put_object(Bucket=bucket, Key="a", Body=b"x")
    assert refused(error) == said


def send(store: RgwStore, bucket: str, signed: bytes, sent: bytes) -> tuple[int, bytes]:
    """A request whose signature is for other bytes, perhaps."""
    request = AWSRequest("PUT", f"{store.endpoint}/{bucket}/a", data=signed)
    request.headers["x-amz-content-sha256"] = hashlib.sha256(signed).hexdigest()
    SigV4Auth(Credentials(*store.keys), "s3", store.region).add_auth(request)
    put = urllib.request.Request(request.url, sent, dict(request.headers.items()), method="PUT")
    try:
        with urllib.request.urlopen(put, context=ssl.create_default_context(cafile=CA), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_s3_refuses_a_body_that_was_altered(s3: RgwStore, bucket: str) -> None:
    assert send(s3, bucket, b"as signed", b"as signed")[0] == 200
    status, text = send(s3, bucket, b"as signed", b"as forged")
    assert status == 400
    assert b"XAmzContentSHA256Mismatch" in text
    assert s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"as signed"


def test_s3_refuses_a_wrong_md5(s3: RgwStore, bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.client().put_object(Bucket=bucket, Key="a", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert refused(error) == "BadDigest"


def upload(client: Any, bucket: str, sizes: list[int]) -> Any:
    name = {"Bucket": bucket, "Key": "parts"}
    name["UploadId"] = client.create_multipart_upload(**name)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**name, PartNumber=number, Body=os.urandom(size))["ETag"]}
        for number, size in enumerate(sizes, 1)
    ]
    return client.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})


def test_s3_refuses_small_parts(s3: RgwStore, bucket: str) -> None:
    upload(s3.client(), bucket, [5 * MIB, 100])
    with pytest.raises(ClientError) as error:
        upload(s3.client(), bucket, [5 * MIB - 1, 100])
    assert refused(error) == "EntityTooSmall"


def test_s3_is_known_by_its_ca_only(s3: RgwStore) -> None:
    context = ssl.create_default_context(cafile=CA)
    # What Python 3.13 asks for by itself.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in (s3.ip, s3.alias):
        with socket.create_connection((s3.ip, 443), 10) as raw, context.wrap_socket(raw, server_hostname=name) as one:
            assert one.version()
    for bad, name in ((ssl.create_default_context(), s3.ip), (context, "other.bulwark.test")):
        with socket.create_connection((s3.ip, 443), 10) as raw, pytest.raises(ssl.SSLCertVerificationError):
            bad.wrap_socket(raw, server_hostname=name)


def test_s3_writer_can_write_but_not_delete(s3: RgwStore, bucket: str) -> None:
    writer = s3.client(s3.writer)
    with pytest.raises(ClientError) as error:
        writer.put_object(Bucket=bucket, Key="a", Body=b"x")
    assert refused(error) == "AccessDenied"
    s3.client().put_bucket_policy(Bucket=bucket, Policy=s3.append_only_policy(bucket))
    writer.put_object(Bucket=bucket, Key="a", Body=b"x")
    upload(writer, bucket, [5 * MIB, 100])
    assert writer.list_objects_v2(Bucket=bucket)["KeyCount"] == 2
    for forbidden in (
        lambda: writer.delete_object(Bucket=bucket, Key="a"),
        lambda: writer.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}]}),
        lambda: writer.delete_bucket_policy(Bucket=bucket),
        lambda: writer.put_bucket_lifecycle_configuration(
            Bucket=bucket,
            LifecycleConfiguration={
                "Rules": [{"ID": "a", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}]
            },
        ),
        lambda: writer.create_bucket(Bucket=f"{bucket}-own"),
    ):
        with pytest.raises(ClientError):
            forbidden()
    assert s3.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"
    s3.client().delete_object(Bucket=bucket, Key="a")


def test_s3_keeps_what_is_locked(s3: RgwStore) -> None:
    client, name = s3.client(), f"locked-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    version = client.put_object(Bucket=name, Key="a", Body=b"x")["VersionId"]
    with pytest.raises(ClientError) as error:
        client.delete_object(Bucket=name, Key="a", VersionId=version)
    assert refused(error) == "AccessDenied"


def test_s3_fills_up_and_has_room_again(s3: RgwStore, bucket: str) -> None:
    client = s3.client()
    s3.set_quota(bucket, MIB)
    client.put_object(Bucket=bucket, Key="a", Body=bytes(MIB // 2))
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket=bucket, Key="b", Body=bytes(MIB))
    assert refused(error) == "QuotaExceeded"
    s3.set_quota(bucket, -1)
    client.put_object(Bucket=bucket, Key="b", Body=bytes(MIB))


def test_s3_refuses_who_was_suspended(s3: RgwStore, bucket: str) -> None:
    s3.admin("user", "suspend", "--uid=owner")
    try:
        with pytest.raises(ClientError) as error:
            s3.client().list_objects_v2(Bucket=bucket)
    finally:
        s3.admin("user", "enable", "--uid=owner")
    assert refused(error) == "UserSuspended"
    assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.fixture(scope="module")
def on_disk(network: str) -> Iterator[RgwStore]:
    store = RgwStore(f"{network}-disk", network, disk=True, day_seconds=2)
    store.stop()
    yield store.start()
    store.stop()


def test_s3_does_what_lifecycle_rules_say(on_disk: RgwStore) -> None:
    client, bucket = on_disk.client(), "ruled"
    client.create_bucket(Bucket=bucket)
    common = {"Status": "Enabled", "Filter": {"Prefix": "short/"}}
    rules = [
        {"ID": "objects", **common, "Expiration": {"Days": 1}},
        {"ID": "uploads", **common, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    for folder in ("short", "long"):
        client.put_object(Bucket=bucket, Key=f"{folder}/a", Body=b"x")
        client.create_multipart_upload(Bucket=bucket, Key=f"{folder}/b")

    def left() -> list[str]:
        objects = client.list_objects_v2(Bucket=bucket)["Contents"]
        uploads = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        return [one["Key"] for one in objects + uploads]

    deadline = time.monotonic() + 30
    while len(left()) > 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left() == ["long/a", "long/b"]


def test_s3_on_disk_survives_a_kill(on_disk: RgwStore) -> None:
    on_disk.client().create_bucket(Bucket="kept")
    on_disk.client().put_object(Bucket="kept", Key="a", Body=b"x")
    hosts.docker("kill", on_disk.name)
    assert on_disk.start().client().get_object(Bucket="kept", Key="a")["Body"].read() == b"x"


def test_s3_in_memory_is_fresh_after_a_kill(network: str) -> None:
    store = RgwStore(f"{network}-brief", network)
    store.stop()
    try:
        store.start().client().create_bucket(Bucket="gone")
        hosts.docker("kill", store.name)
        assert store.start().client().list_buckets()["Buckets"] == []
    finally:
        store.stop()


# -- S3 behind the proxy ----------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(s3: RgwStore) -> Iterator[Any]:
    s3.faults.set()
    yield lambda **options: s3.client(faulty=True, **options)
    s3.faults.set()


class Unseekable(io.RawIOBase):
    """What a pipe is to a client: no length and no way back, so it sends chunks with a checksum behind them."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        return self.data.readinto(target)


def test_signatures_hold_through_the_proxy(s3: RgwStore, bucket: str, faulty: Any) -> None:
    data = os.urandom(6 * MIB)
    faulty().put_object(Bucket=bucket, Key="a", Body=data)
    faulty().upload_fileobj(Unseekable(data), bucket, "b")
    upload(faulty(), bucket, [5 * MIB, 100])
    for key in ("a", "b"):
        assert faulty().get_object(Bucket=bucket, Key=key)["Body"].read() == data
    with pytest.raises(ClientError) as error:
        faulty(keys=Keys(s3.keys.access_key, "not-the-secret")).list_objects_v2(Bucket=bucket)
    assert refused(error) == "SignatureDoesNotMatch"


def test_a_part_that_was_cut_is_not_there(s3: RgwStore, bucket: str, faulty: Any) -> None:
    client, name = faulty(), {"Bucket": bucket, "Key": "a"}
    name["UploadId"] = client.create_multipart_upload(**name)["UploadId"]
    s3.faults.set({"do": "cut_request", "path": "partNumber=1", "bytes": 3 * MIB, "count": 1})
    with pytest.raises(BotoCoreError):
        client.upload_part(**name, PartNumber=1, Body=bytes(5 * MIB))
    assert "Parts" not in client.list_parts(**name)
    client.upload_part(**name, PartNumber=1, Body=bytes(5 * MIB))
    assert [part["Size"] for part in client.list_parts(**name)["Parts"]] == [5 * MIB]


def test_clients_try_again_when_told_to_slow_down(s3: RgwStore, bucket: str, faulty: Any) -> None:
    s3.faults.set({"do": "answer", "status": 503, "method": "PUT", "count": 2})
    faulty(attempts=4).put_object(Bucket=bucket, Key="a", Body=b"x")
    assert [entry["status"] for entry in s3.faults.log()] == [503, 503, 200]


def test_quirks_of_other_stores(s3: RgwStore, bucket: str, faulty: Any) -> None:
    s3.faults.set({"do": "refuse_header"}, {"do": "equal_parts"})
    with pytest.raises(ClientError, match="Unsupported header"):
        faulty().put_object(Bucket=bucket, Key="a", Body=b"x")
    plain = faulty(request_checksum_calculation="when_required")
    plain.put_object(Bucket=bucket, Key="a", Body=b"x")
    upload(plain, bucket, [6 * MIB, 6 * MIB, 100])
    with pytest.raises(ClientError) as error:
        upload(plain, bucket, [6 * MIB, 5 * MIB, 100])
    assert refused(error) == "InvalidPart"
    s3.faults.set({"do": "skew", "seconds": 1200})
    with pytest.raises(ClientError) as error:
        plain.put_object(Bucket=bucket, Key="a", Body=b"x")
    assert refused(error) == "RequestTimeTooSkewed"


# -- native B2 --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def b2_client(native_b2: B2Store) -> Any:
    """Gives an API object that is logged in with a key, through the proxy if asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(CA))

        def make(keys: Keys = native_b2.keys, faulty: bool = False) -> b2.B2Api:
            one = b2.B2Api(b2.InMemoryAccountInfo())
            one.authorize_account(native_b2.faulty_endpoint if faulty else native_b2.endpoint, *keys)
            return one

        yield make


@pytest.fixture
def b2_bucket(b2_client: Any) -> b2.Bucket:
    return b2_client().create_bucket(f"test-{uuid.uuid4().hex}", "allPrivate")


def b2_read(bucket: b2.Bucket, name: str) -> bytes:
    target = io.BytesIO()
    bucket.download_file_by_name(name).save(target)
    return target.getvalue()


def b2_upload(bucket: b2.Bucket, name: str, data: bytes) -> None:
    sizes = {"recommended_upload_part_size": 6_000_000, "min_part_size": 5_000_000}
    bucket.upload_unbound_stream(io.BytesIO(data), name, **sizes)


def test_b2_refuses_wrong_keys(b2_client: Any, native_b2: B2Store) -> None:
    for keys in (Keys(native_b2.keys.access_key, "wrong"), Keys("nobody", "wrong")):
        with pytest.raises(b2_errors.Unauthorized):
            b2_client(keys)


def test_b2_gives_back_what_it_got(b2_bucket: b2.Bucket) -> None:
    data = os.urandom(15_000_000)
    b2_upload(b2_bucket, "big/ä b", data)
    b2_bucket.upload_bytes(b"small", "small/a")
    assert b2_read(b2_bucket, "big/ä b") == data
    assert b2_read(b2_bucket, "small/a") == b"small"
    assert [file.file_name for file, _ in b2_bucket.ls("small", recursive=True)] == ["small/a"]


def test_b2_refuses_what_was_altered_and_small_parts(b2_client: Any, b2_bucket: b2.Bucket) -> None:
    session = b2_client().session
    digest = hashlib.sha1(b"as hashed").hexdigest()
    with pytest.raises(b2_errors.BadRequest, match="Checksum did not match"):
        session.upload_file(b2_bucket.id_, "a", 9, "a/b", digest, {}, io.BytesIO(b"as forged"))
    large = session.start_large_file(b2_bucket.id_, "a", "a/b", {})["fileId"]
    for number in (1, 2):
        session.upload_part(large, number, 9, digest, io.BytesIO(b"as hashed"))
    with pytest.raises(b2_errors.BadRequest, match="minimum part size"):
        session.finish_large_file(large, [digest, digest])
    assert [file.file_id for file in b2_bucket.list_unfinished_large_files()] == [large]


def test_b2_writer_can_write_but_not_delete(b2_client: Any, b2_bucket: b2.Bucket) -> None:
    rights = ["listBuckets", "listFiles", "readFiles", "writeFiles"]
    key = b2_client().create_key(rights, "writer", bucket_id=b2_bucket.id_, name_prefix="own/")
    api = b2_client(Keys(key.id_, key.application_key))
    writer = api.get_bucket_by_name(b2_bucket.name)
    file = writer.upload_bytes(b"x", "own/a")
    b2_upload(writer, "own/big", os.urandom(11_000_000))
    with pytest.raises(b2_errors.Unauthorized):
        api.delete_file_version(file.id_, "own/a")
    with pytest.raises(b2_errors.MaxRetriesExceeded):
        writer.upload_bytes(b"x", "other/a")
    b2_bucket.upload_bytes(b"x", "other/a")
    with pytest.raises(b2_errors.Unauthorized):
        b2_read(writer, "other/a")
    with pytest.raises(b2_errors.Unauthorized):
        list(writer.ls("", recursive=True))


def test_b2_wants_another_address_after_503(b2_client: Any, b2_bucket: b2.Bucket, native_b2: B2Store) -> None:
    bucket = b2_client(faulty=True).get_bucket_by_name(b2_bucket.name)
    native_b2.faults.set()
    native_b2.control(busy=2)
    bucket.upload_bytes(b"x", "a")
    uploads = [(entry["path"], entry["status"]) for entry in native_b2.faults.log() if "/upload-" in entry["path"]]
    assert [status for _, status in uploads] == [503, 503, 200]
    assert len({path for path, _ in uploads}) == 3
    native_b2.control(expire=True)
    bucket.upload_bytes(b"y", "a")
    assert b2_read(bucket, "a") == b"y"


# -- SFTP -------------------------------------------------------------------------------------------------------------


def connect(box: SftpStore, port: int = 22, key: paramiko.PKey | None = None, **other: Any) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.load_host_keys(box.facts()["known_hosts"])
    key = key or (None if other else paramiko.Ed25519Key.from_private_key_file(str(box.key_file)))
    known = {"look_for_keys": False, "allow_agent": False, "timeout": 10}
    client.connect(box.ip, port, box.user, pkey=key, **known, **other)
    return client


def test_box_refuses_others(box: SftpStore) -> None:
    with pytest.raises(paramiko.AuthenticationException):
        connect(box, key=paramiko.ECDSAKey.generate())
    with pytest.raises(paramiko.SSHException):
        connect(box, password="guessed")


@pytest.mark.parametrize("port", [22, 23])
def test_box_is_its_own_space_and_no_shell(box: SftpStore, port: int) -> None:
    with connect(box, port) as client:
        files = client.open_sftp()
        assert files.normalize(".") == "/home"
        with files.open("a", "wb") as handle:
            handle.write(b"x")
        files.posix_rename("a", "b")
        assert files.stat("/home/b").st_size == 1
        assert files.listdir("/") == ["home"]
        with pytest.raises(PermissionError):
            files.open("/a", "wb")
        files.remove("b")
        assert b"sftp connections only" in client.exec_command("id")[1].read()


def test_box_fills_up_and_has_room_again(box: SftpStore) -> None:
    with connect(box) as client:
        files = client.open_sftp()
        box.leave_free(2 * MIB)
        with pytest.raises(OSError, match="Failure"):
            files.putfo(io.BytesIO(bytes(4 * MIB)), "full")
        files.remove("full")
        box.free_all()
        files.putfo(io.BytesIO(bytes(4 * MIB)), "full")
        files.remove("full")


def test_box_cuts_connections_and_takes_new_ones(box: SftpStore) -> None:
    with connect(box) as client:
        files = client.open_sftp()
        box.cut()
        with pytest.raises((EOFError, OSError, paramiko.SSHException)):
            files.listdir(".")
    connect(box).close()

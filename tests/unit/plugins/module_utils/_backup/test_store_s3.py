"""What S3 stores answer and what becomes of it; the answers are those of the providers' documents.

How the store behaves is in tests/stores, against a real one.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.response import StreamingBody
from botocore.stub import Stubber

from plugins.module_utils._backup import store_s3
from plugins.module_utils._backup.errors import (
    DeniedError,
    ExistsError,
    NoBucketError,
    NotFoundError,
    StoreError,
    UnsupportedError,
)
from plugins.module_utils._backup.retry import Retry
from plugins.module_utils._backup.settings import StoreSettings

SETTINGS = StoreSettings(
    kind="s3", provider="hetzner", region="fsn1", bucket="backups", access_key="key", secret_key="secret"
)


def answer(status: int, code: str = "", text: str = "", **headers: str) -> dict[str, Any]:
    return {
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (502, ""),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (504, "504"),
        (520, ""),
        (429, "TooManyRequests"),
        (408, ""),
        (400, "RequestTimeout"),
        (400, "BadDigest"),
        (400, "IncompleteBody"),
        (409, "OperationAborted"),
        (409, "ConditionalRequestConflict"),
        # An answer of 200 that holds an error, as CompleteMultipartUpload gives.
        (200, "InternalError"),
    ],
)
def test_what_passes(status, code):
    error = store_s3.refusal(SETTINGS, answer(status, code), "upload_part", "a")
    assert error.transient
    assert str(error).startswith("hetzner/backups could not store a now (")


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "SignatureDoesNotMatch", DeniedError, "correct access_key and secret_key"),
        (403, "InvalidAccessKeyId", DeniedError, "correct access_key and secret_key"),
        (400, "ExpiredToken", DeniedError, "has expired (ExpiredToken): make a new one"),
        (403, "UserSuspended", DeniedError, "The account at hetzner/backups is suspended"),
        (403, "AccessDenied", DeniedError, "does not allow this key to store a (403 AccessDenied)"),
        (403, "QuotaExceeded", StoreError, "is full (403 QuotaExceeded): raise its limit, or prune"),
        (507, "", StoreError, "is full (507)"),
        (404, "NoSuchBucket", NoBucketError, "There is no bucket backups"),
        (404, "NoSuchKey", NotFoundError, "has no a."),
        (404, "404", NotFoundError, "has no a."),
        (404, "NoSuchUpload", NotFoundError, "has no a in the making"),
        (412, "PreconditionFailed", ExistsError, "has a already; it is not replaced"),
        (412, "412", ExistsError, "not replaced"),
        (301, "PermanentRedirect", StoreError, "is in another region than fsn1"),
        (400, "InvalidPart", StoreError, "does not have the parts that were sent to it"),
        (400, "EntityTooSmall", StoreError, "does not have the parts"),
        (501, "NotImplemented", UnsupportedError, "cannot store a (501 NotImplemented)"),
        (404, "NoSuchLifecycleConfiguration", NotFoundError, "has no a"),
        (405, "MethodNotAllowed", UnsupportedError, "cannot store a"),
        (400, "InvalidArgument", StoreError, "refused to store a (400 InvalidArgument)"),
    ],
)
def test_what_does_not_pass(status, code, kind, said):
    error = store_s3.refusal(SETTINGS, answer(status, code), "upload_part", "a")
    assert type(error) is kind
    assert not error.transient
    assert said in str(error)


@pytest.mark.parametrize(("minutes", "said"), [(20, "20 minutes behind"), (-20, "20 minutes ahead of")])
@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "AccessDenied", "SignatureDoesNotMatch"])
def test_a_wrong_clock_is_not_taken_for_a_wrong_key(code, minutes, said):
    there = format_datetime(datetime.now(timezone.utc) + timedelta(minutes=minutes))
    error = store_s3.refusal(SETTINGS, answer(403, code, date=there), "put_object", "a")
    assert f"This host's clock is {said}" in str(error)
    assert not error.transient


@pytest.mark.parametrize(("header", "seconds"), [("17", 17), ("", 0), ("soon", 0)])
def test_how_long_to_wait(header, seconds):
    headers = {"retry-after": header} if header else {}
    assert store_s3.refusal(SETTINGS, answer(503, "SlowDown", **headers), "", "").after_seconds == seconds
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)
    assert 55 < store_s3.wait({"retry-after": later}) < 61


@pytest.fixture
def store():
    return store_s3.S3Store(
        SETTINGS, store_s3.make_client(SETTINGS), Retry(60, sleep=lambda seconds: None, spread=lambda least, most: 0)
    )


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (EndpointConnectionError(endpoint_url="https://x", error="refused"), True),
        (ConnectTimeoutError(endpoint_url="https://x", error="slow"), True),
        (ReadTimeoutError(endpoint_url="https://x", error="slow"), True),
        (ResponseStreamingError(error="cut"), True),
        (SSLError(endpoint_url="https://x", error="EOF occurred in violation of protocol"), True),
        (SSLError(endpoint_url="https://x", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), False),
        (ConnectionResetError("cut"), True),
    ],
)
def test_what_disturbs(store, error, transient):
    def work():
        raise error

    with pytest.raises(StoreError) as raised:
        store.guard(work)
    assert raised.value.transient is transient
    assert ("set ca_file" in str(raised.value)) is not transient


def body(data: bytes, promised: int = 0) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(data), None), "ContentLength": promised or len(data), "ETag": "tag"}


def test_an_answer_that_ends_early_is_taken_up(store):
    where = {"Bucket": "backups", "Key": "a"}
    with Stubber(store.client) as stub:
        stub.add_response("get_object", body(b"abc", promised=6), where)
        stub.add_response("get_object", body(b"def"), {**where, "Range": "bytes=3-"})
        assert b"".join(store.read("a")) == b"abcdef"


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(store):
    where = {"Bucket": "backups", "Key": "a"}
    with Stubber(store.client) as stub:
        stub.add_response("get_object", body(b"abc", promised=6), where)
        stub.add_response("get_object", {**body(b"xyz"), "ETag": "other"}, {**where, "Range": "bytes=3-"})
        with pytest.raises(StoreError, match="was replaced while it was read"):
            list(store.read("a"))


def test_only_what_was_not_deleted_is_asked_for_again(store):
    store.versioned = False
    names = [f"{number:04}" for number in range(1001)]

    def words(some: list[str]) -> dict[str, Any]:
        return {"Bucket": "backups", "Delete": {"Objects": [{"Key": name} for name in some], "Quiet": True}}

    errors = [
        {"Key": "0007", "Code": "SlowDown"},
        {"Key": "0008", "Code": "NoSuchKey"},
        {"Key": "0009", "Code": "AccessDenied", "Message": "forbidden by object lock"},
    ]
    with Stubber(store.client) as stub:
        stub.add_response("delete_objects", {"Errors": errors}, words(names[:1000]))
        stub.add_response("delete_objects", {}, words(["0007"]))
        stub.add_response("delete_objects", {}, words(["1000"]))
        with pytest.raises(
            DeniedError, match=r"did not delete 1 objects: .*0009 \(AccessDenied forbidden by object lock\)"
        ):
            store.delete(names)
        stub.assert_no_pending_responses()


def test_completing_again_what_is_complete(store):
    where = {"Bucket": "backups", "Key": "a"}
    upload = store_s3.S3Upload(store, "a", 5)
    upload.upload = "id"
    upload.parts = {1: ("t1", 5), 2: ("t2", 2)}
    parts = {"Parts": [{"PartNumber": 1, "ETag": "t1"}, {"PartNumber": 2, "ETag": "t2"}]}
    complete = {**where, "UploadId": "id", "MultipartUpload": parts}
    for size in (7, 6):
        with Stubber(store.client) as stub:
            stub.add_client_error("complete_multipart_upload", "NoSuchUpload", "", 404, expected_params=complete)
            stub.add_response("head_object", {"ContentLength": size}, where)
            if size == 7:
                upload.complete()
            else:
                with pytest.raises(NotFoundError, match="in the making"):
                    upload.complete()


@pytest.mark.parametrize("data", [b"", b"short"])
def test_what_is_shorter_than_a_part_is_one_request(store, data):
    words = {"Bucket": "backups", "Key": "a", "Body": memoryview(data), "ContentMD5": store_s3.md5(data)}
    with Stubber(store.client) as stub:
        stub.add_response("put_object", {}, words)
        upload = store.begin("a", 6)
        if data:
            upload.part(1, data)
        upload.complete()
        # Nothing was begun, so there is nothing to abort.
        store.begin("b", 6).abort()
        stub.assert_no_pending_responses()


def test_a_store_without_conditional_requests_is_asked_first(store):
    where = {"Bucket": "backups", "Key": "a"}
    words = {**where, "Body": memoryview(b"x"), "ContentMD5": "ndTkYSaMgDT1yFZOFVxnpg=="}
    for exists in (False, True):
        with Stubber(store.client) as stub:
            stub.add_client_error("put_object", "NotImplemented", "", 501, expected_params=words)
            if exists:
                stub.add_response("head_object", {}, where)
                stub.add_response("get_object", body(b"other"), where)
                with pytest.raises(ExistsError, match="not replaced"):
                    store.put("a", b"x")
            else:
                stub.add_client_error("head_object", "404", "", 404, expected_params=where)
                stub.add_response("put_object", {}, words)
                store.put("a", b"x")
            stub.assert_no_pending_responses()


class Recorder(http.server.BaseHTTPRequestHandler):
    """Takes every request and remembers it."""

    seen: list[tuple[dict[str, str], bytes]] = []

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(({name.lower(): value for name, value in self.headers.items()}, data))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"tag"')
        self.end_headers()

    def log_message(self, *words):
        pass


def test_what_is_sent():
    server = http.server.HTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        settings = replace(SETTINGS, provider="custom", endpoint=f"http://127.0.0.1:{server.server_port}")
        store = store_s3.open_store(settings)
        store.put("a", b"small")
        buffer = bytearray(b"large part and more")
        upload = store_s3.S3Upload(store, "a", 10)
        upload.upload = "id"
        upload.part(1, memoryview(buffer)[:10])
    finally:
        server.shutdown()
        server.server_close()
    (small, data), (part, part_data) = Recorder.seen
    assert (data, part_data) == (b"small", b"large part")
    assert small["if-none-match"] == "*"
    assert "if-none-match" not in part
    for headers, sent in Recorder.seen:
        assert headers["content-md5"] == store_s3.md5(sent)
        assert headers["x-amz-content-sha256"] == hashlib.sha256(sent).hexdigest()
        assert not [name for name in headers if "checksum" in name or name in ("x-amz-trailer", "transfer-encoding")]


def test_times_are_read_as_botocore_reads_them():
    from botocore.utils import parse_timestamp

    for text in ("2026-11-20T16:38:51.636Z", "2026-11-20T16:38:51Z", "Fri, 20 Nov 2026 16:38:51 GMT"):
        assert store_s3.moment(text) == parse_timestamp(text)
    assert store_s3.moment(0) == datetime(1970, 1, 1, tzinfo=timezone.utc)


def test_the_client_reads_no_settings_of_this_host(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[default]\nregion = eu-west-9\ns3 =\n  addressing_style = path\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "default")
    client = store_s3.make_client(SETTINGS)
    assert client.meta.region_name == "fsn1"
    assert client.meta.endpoint_url == "https://fsn1.your-objectstorage.com"
    assert client.meta.config.retries["total_max_attempts"] == 1

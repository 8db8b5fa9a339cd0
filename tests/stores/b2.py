"""Native B2 over HTTP for tests: the simulator of b2sdk behind the addresses and the JSON of the real service.

The simulator keeps everything in memory and is made for unit tests, so this adds what a server must know: who may do
what (keys for one bucket or one prefix, expired keys and tokens), upload addresses, parts of at least 5 MB, the time.

PUT /control takes a JSON object: "busy": N makes the next N upload addresses that are used answer 503 for good, as B2
does when a storage pod is full; "expire": true makes all tokens expired, as after a day.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from b2sdk._internal import exception as b2
from b2sdk._internal.file_lock import BucketRetentionSetting
from b2sdk._internal.raw_simulator import BucketSimulator, RawSimulator

MB = 1_000_000
# (status, code) of the real service; the first class that fits.
ERRORS: list[tuple[type[Exception], int, str]] = [
    (b2.InvalidAuthToken, 401, ""),
    (b2.Unauthorized, 401, "unauthorized"),
    (b2.FileNotPresent, 400, "file_not_present"),
    (b2.NonExistentBucket, 400, "bad_bucket_id"),
    (b2.DuplicateBucketName, 400, "duplicate_bucket_name"),
    (b2.MissingPart, 400, "missing_part"),
    (b2.AccessDenied, 403, "access_denied"),
    (b2.ServiceError, 503, "service_unavailable"),
    (b2.UnsatisfiableRange, 416, "range_not_satisfiable"),
]
CHECKSUMS = (b2.FileSha1Mismatch, b2.PartSha1Mismatch, b2.ChecksumMismatch)
# What the simulator calls otherwise, and what it lets everybody do.
METHODS = {"b2_get_file_info": "get_file_info_by_id"}
NAMES = {"fileLockEnabled": "is_file_lock_enabled", "validDurationInSeconds": "valid_duration_seconds"}
CAPABILITIES = {"b2_get_file_info": "readFiles", "b2_delete_key": "deleteKeys"}


class Bucket(BucketSimulator):
    # One row for all buckets, as the simulator looks files up by it; the newest sorts first.
    ids = itertools.count(10**9, -1)

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.upload_url_counter = itertools.count()
        self.upload_timestamp_counter = (int(time.time() * 1000) for _ in itertools.count())

    def _next_file_id(self) -> str:
        return f"{next(Bucket.ids):012d}"

    def _simulate_chunked_post(self, stream: Any, *words: Any, **options: Any) -> bytes:
        return stream.read()

    def finish_large_file(self, token: str, file_id: str, sha1s: list[str]) -> Any:
        sizes = [part.content_length for part in self.file_id_to_file[file_id].parts if part]
        if any(size < 5 * MB for size in sizes[:-1]):
            raise b2.BadRequest("part number 1 is smaller than the minimum part size of 5000000", "bad_request")
        return super().finish_large_file(token, file_id, sha1s)


class Simulator(RawSimulator):
    BUCKET_SIMULATOR_CLASS = Bucket
    # What the request at hand is about; most of the simulator's methods do not say so when they ask who may.
    bucket_id = file_name = None

    def _assert_account_auth(
        self, api_url: str, token: str, account_id: str, capability: str, bucket_id: Any = None, file_name: Any = None
    ) -> None:
        key = self.auth_token_to_key.get(token)
        if key is None:
            raise b2.InvalidAuthToken("not known", "bad_auth_token")
        expires = key.expiration_timestamp_or_none
        if token in self.expired_auth_tokens or (expires and expires < time.time()):
            raise b2.InvalidAuthToken("expired", "expired_auth_token")
        # A listing without a prefix is one of everything.
        name = file_name or self.file_name or ("" if capability == "listFiles" else None)
        super()._assert_account_auth(self.API_URL, token, key.account_id, capability, bucket_id or self.bucket_id, name)

    def look_at(self, bucket_id: str | None, bucket_name: str | None, file_id: str | None, name: str | None) -> None:
        named = self.bucket_name_to_bucket.get(bucket_name or "")
        self.bucket_id = bucket_id or (named and named.bucket_id) or self.file_id_to_bucket_id.get(file_id or "")
        bucket = self.bucket_id_to_bucket.get(self.bucket_id or "")
        file = bucket.file_id_to_file.get(file_id or "") if bucket else None
        if file_id and file is None:
            raise b2.FileNotPresent(file_id_or_name=file_id)
        self.file_name = name or (file and file.name)

    def may(self, token: str, capability: str) -> None:
        self._assert_account_auth(self.API_URL, token, "", capability)


class Store:
    """The simulator and the upload addresses that it gave out; one request at a time."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.simulator = Simulator()
        self.account, self.key = self.simulator.create_account()
        self.uploads: dict[str, dict[str, str]] = {}
        self.busy_next = 0
        self.busy: set[str] = set()

    def control(self, orders: dict[str, Any]) -> None:
        self.busy_next = orders.get("busy", self.busy_next)
        if orders.get("expire"):
            self.simulator.expired_auth_tokens |= set(self.simulator.auth_token_to_key)

    def authorize(self, credentials: str, base: str) -> dict[str, Any]:
        """The answer in the forms of API versions 2 and 3 at once."""
        try:
            key_id, key = base64.b64decode(credentials.removeprefix("Basic ")).decode().split(":", 1)
        except ValueError as error:
            raise b2.InvalidAuthToken("no credentials", "bad_auth_token") from error
        answer = self.simulator.authorize_account(None, key_id, key)
        sizes = {"recommendedPartSize": 100 * MB, "absoluteMinimumPartSize": 5 * MB}
        api = answer["apiInfo"]["storageApi"]
        api.update(apiUrl=base, downloadUrl=base, s3ApiUrl=base, **sizes)
        allowed = {name: api[name] for name in ("bucketId", "bucketName", "capabilities", "namePrefix")}
        buckets = [{"id": allowed["bucketId"], "name": allowed["bucketName"]}] if allowed["bucketId"] else None
        api["allowed"] = {**allowed, "buckets": buckets}
        return {**answer, **api}

    def call(self, name: str, token: str, words: dict[str, Any], base: str) -> dict[str, Any]:
        sim = self.simulator
        prefix = words.get("prefix") or words.get("namePrefix")
        file_name = words.get("fileName") or prefix
        sim.look_at(words.get("bucketId"), words.get("bucketName"), words.get("fileId"), file_name)
        # Who may list, make and delete keys is not asked for each of their buckets.
        if name in ("b2_create_key", "b2_delete_key"):
            sim.bucket_id = sim.file_name = None
        if name in CAPABILITIES:
            sim.may(token, CAPABILITIES[name])
        method = getattr(sim, METHODS.get(name, name.removeprefix("b2_")), None)
        if method is None or not name.startswith("b2_"):
            raise b2.BadRequest(f"unknown: {name}", "bad_request")
        words = {NAMES.get(key, snake(key)): value for key, value in words.items() if key != "bucketTypes"}
        if name == "b2_create_key":
            words = {"valid_duration_seconds": None, "bucket_id": None, "name_prefix": None, **words}
            # Version 4 names a list.
            words["bucket_id"] = next(iter(words.pop("bucket_ids", None) or []), words["bucket_id"])
        if name == "b2_list_unfinished_large_files" and "name_prefix" in words:
            words["prefix"] = words.pop("name_prefix")
        if name in ("b2_list_file_names", "b2_list_file_versions") and prefix:
            # The simulator stops at the first name that has another prefix.
            words["start_file_name"] = words.get("start_file_name") or prefix
        if "default_retention" in words:
            words["default_retention"] = BucketRetentionSetting.from_bucket_retention_dict(words["default_retention"])
        answer = method(sim.API_URL, token, **words)
        if name in ("b2_get_upload_url", "b2_get_upload_part_url"):
            number = f"upload-{len(self.uploads)}"
            self.uploads[number] = {**answer, "account": token}
            answer = {**answer, "uploadUrl": f"{base}/{number}", "authorizationToken": f"token-of-{number}"}
            answer.update({key: words[snake(key)] for key in ("fileId", "bucketId") if snake(key) in words})
        return answer

    def upload(self, number: str, token: str, headers: Any, body: bytes) -> dict[str, Any]:
        address = self.uploads.get(number)
        if address is None or token != f"token-of-{number}":
            raise b2.InvalidAuthToken("not for this address", "bad_auth_token")
        if self.busy_next:
            self.busy_next -= 1
            self.busy.add(number)
        if number in self.busy:
            raise b2.ServiceError("no tomes available")
        sim = self.simulator
        url, sha1, part = address["uploadUrl"], headers["X-Bz-Content-Sha1"], headers.get("X-Bz-Part-Number")
        name = unquote(headers.get("X-Bz-File-Name", "").replace("+", "%20"))
        sim.look_at(None if part else address["bucketId"], None, url.split("/")[4] if part else None, name)
        sim.may(address["account"], "writeFiles")
        if part:
            return sim.upload_part(url, url, int(part), len(body), sha1, io.BytesIO(body))
        prefix = "x-bz-info-"
        info = {key[len(prefix) :].lower(): unquote(headers[key]) for key in headers if key.lower().startswith(prefix)}
        kind = headers.get("Content-Type", "b2/x-auto")
        return sim.upload_file(url, url, name, len(body), kind, sha1, info, io.BytesIO(body))

    def download(self, path: str, query: dict[str, str], token: str, wanted: str) -> tuple[dict[str, str], bytes]:
        sim = self.simulator
        file_id = query.get("fileId")
        bucket_name, _, name = path.removeprefix("/file/").partition("/")
        name = unquote(name.replace("+", "%20"))
        sim.look_at(None, None if file_id else bucket_name, file_id, None if file_id else name)
        sim.may(token, "readFiles")
        bucket = sim._get_bucket_by_id(sim.bucket_id)
        if not file_id:
            listed = bucket.list_file_names(token, name, 1)["files"]
            if not listed or listed[0]["fileName"] != name:
                raise b2.FileNotPresent(file_id_or_name=name)
            file_id = listed[0]["fileId"]
        file = bucket.file_id_to_file[file_id]
        if not file.is_visible():
            raise b2.FileNotPresent(file_id_or_name=file_id)
        data, span = file.data_bytes, None
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted):
            span = (int(found[1]), min(int(found[2] or len(data)), len(data) - 1))
            if span[0] >= len(data):
                raise b2.UnsatisfiableRange
            data = data[span[0] : span[1] + 1]
        headers = dict(file.as_download_headers(token, span))
        headers["Content-Length"] = str(len(data))
        headers.pop("content-length", None)
        return headers, data


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *words: Any) -> None:
        pass

    def base(self) -> str:
        secure = isinstance(self.connection, ssl.SSLSocket) or self.headers.get("X-Forwarded-Proto") == "https"
        return f"{'https' if secure else 'http'}://{self.headers['Host']}"

    def handle_all(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        token = self.headers.get("Authorization") or query.get("Authorization", "")
        try:
            with self.store.lock:
                if url.path.startswith("/file/") or url.path.endswith("/b2_download_file_by_id"):
                    wanted = self.headers.get("Range", "")
                    headers, data = self.store.download(url.path, query, token, wanted)
                    self.reply(206 if wanted else 200, data, headers)
                    return
                answer = json.dumps(self.answer(url.path, query, token, body), default=list)
        except Exception as error:
            status, code = explain(error)
            # Said otherwise to who reads than to who deletes.
            if code == "file_not_present" and (self.command != "POST" or url.path.endswith("/b2_get_file_info")):
                status, code = 404, "not_found"
            text = "Checksum did not match data received" if isinstance(error, CHECKSUMS) else str(error)
            self.reply(status, json.dumps({"status": status, "code": code, "message": text}).encode(), {})
        else:
            self.reply(200, answer.encode(), {"Content-Type": "application/json"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_all

    def answer(self, path: str, query: dict[str, str], token: str, body: bytes) -> Any:
        last = path.rsplit("/", 1)[1]
        if path == "/control":
            return self.store.control(json.loads(body))
        if last.startswith("upload-"):
            return self.store.upload(last, token, self.headers, body)
        if last == "b2_authorize_account":
            return self.store.authorize(token, self.base())
        return self.store.call(last, token, {**query, **json.loads(body or b"{}")}, self.base())

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def explain(error: Exception) -> tuple[int, str]:
    for kind, status, code in ERRORS:
        if isinstance(error, kind):
            return status, code or getattr(error, "code", "")
    # What the simulator trips over is what the service calls a bad request.
    return 400, "bad_request"


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context:
            request = self.context.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def main() -> None:
    parser = argparse.ArgumentParser(description="See the first lines of this file.")
    parser.add_argument("--port", type=int, default=7480)
    parser.add_argument("--tls-port", type=int, default=443)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), required=True)
    words = parser.parse_args()
    Handler.store = Store()
    plain, secure = Server(("127.0.0.1", words.port), Handler), Server(("", words.tls_port), Handler)
    secure.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.context.load_cert_chain(*words.tls)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure.serve_forever()


if __name__ == "__main__":
    main()

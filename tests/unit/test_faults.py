"""The proxy that misbehaves on order, in front of a tiny store: each fault does what it says, and to nobody else."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.stores.faults import Proxy

BIG = b"0123456789abcdef" * 20_000


class Backend(BaseHTTPRequestHandler):
    """Keeps what is put; GET gives it back, in chunks when the name says so."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes] = {}
    heads: dict[str, dict[str, str]] = {}

    def log_message(self, *words: Any) -> None:
        pass

    def do_PUT(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):
                return
        self.kept[self.path] = body
        self.heads[self.path] = dict(self.headers.items())
        self.send_response(200)
        self.send_header("ETag", '"made-up"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT

    def do_GET(self) -> None:
        body = self.kept.get(self.path)
        self.send_response(404 if body is None else 200)
        body = body or b""
        if "chunked" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET


class Client:
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def rules(self, *rules: dict[str, Any]) -> int:
        return self.ask("PUT", "/", json.dumps(rules).encode(), port=self.proxy.control_port)[0]

    def log(self) -> list[dict[str, Any]]:
        return json.loads(self.ask("GET", "/", port=self.proxy.control_port)[1])["log"]

    def ask(self, method: str, path: str, body: Any = None, port: int = 0, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.proxy.port, timeout=10)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names, encode_chunked=not isinstance(body, bytes | None))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    # A cut connection is what is asked for, no news.
    backend.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=backend.serve_forever, args=(0.05,), daemon=True).start()
    one = Proxy(0, 0, ("127.0.0.1", backend.server_port))
    threading.Thread(target=one.run, daemon=True).start()
    yield one
    one.close()
    backend.shutdown()


@pytest.fixture
def client(proxy: Proxy) -> Client:
    Backend.kept.clear()
    one = Client(proxy)
    assert one.rules() == 200
    return one


def code(body: bytes) -> str | None:
    return ElementTree.fromstring(body).findtext("Code")


def test_passes_unchanged(client: Client) -> None:
    assert client.ask("PUT", "/b/one?x=%2F", BIG, Host="s3.example:1234", X_Odd="yes")[0] == 200
    assert Backend.heads["/b/one?x=%2F"]["Host"] == "s3.example:1234"
    assert Backend.heads["/b/one?x=%2F"]["X-Odd"] == "yes"
    assert client.ask("GET", "/b/one?x=%2F") == (200, BIG)
    assert client.ask("HEAD", "/b/one?x=%2F") == (200, b"")
    assert client.ask("GET", "/b/none")[0] == 404
    seen = [(entry["method"], entry["status"]) for entry in client.log()]
    assert seen == [("PUT", 200), ("GET", 200), ("HEAD", 200), ("GET", 404)]


def test_chunked_both_ways(client: Client) -> None:
    assert client.ask("PUT", "/b/chunked", iter([BIG[:1000], BIG[1000:]]), Transfer_Encoding="chunked")[0] == 200
    assert client.ask("GET", "/b/chunked") == (200, BIG)


def test_answers_the_ordered_number_and_only_what_matches(client: Client) -> None:
    client.rules({"do": "answer", "status": 503, "method": "PUT", "path": "/b/", "skip": 1, "count": 2})
    statuses = [client.ask("PUT", path, b"x")[0] for path in ("/b/1", "/c/1", "/b/2", "/b/3", "/b/4")]
    assert statuses == [200, 200, 503, 503, 200]
    assert "/b/2" not in Backend.kept


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "InternalError"),
        (503, "SlowDown"),
        (429, "TooManyRequests"),
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
        (507, "InsufficientStorage"),
    ],
)
def test_answers_as_s3_does(client: Client, status: int, said: str) -> None:
    client.rules({"do": "answer", "status": status})
    got, body = client.ask("PUT", "/b/1", BIG)
    assert (got, code(body)) == (status, said)
    client.rules({"do": "answer", "status": 403, "code": "QuotaExceeded"})
    assert code(client.ask("PUT", "/b/1", BIG)[1]) == "QuotaExceeded"
    assert client.ask("HEAD", "/b/1") == (403, b"")


def test_answers_as_b2_does(client: Client, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "speaks_json", True)
    for rule, said in (
        ({"status": 503}, "service_unavailable"),
        ({"status": 500}, "internal_error"),
        ({"status": 403, "code": "storage_cap_exceeded"}, "storage_cap_exceeded"),
    ):
        client.rules({"do": "answer", **rule})
        body = json.loads(client.ask("POST", "/upload", b"x")[1])
        assert (body["status"], body["code"]) == (rule["status"], said)


def test_cuts_the_request(client: Client) -> None:
    client.rules({"do": "cut_request", "bytes": 100_000, "count": 1})
    with pytest.raises(ConnectionError):
        client.ask("PUT", "/b/1", BIG)
    assert "/b/1" not in Backend.kept
    assert client.ask("PUT", "/b/1", BIG)[0] == 200


def test_cuts_the_answer(client: Client) -> None:
    client.ask("PUT", "/b/chunked", BIG)
    client.ask("PUT", "/b/1", BIG)
    client.rules({"do": "cut_answer", "bytes": 100_000})
    for path in ("/b/1", "/b/chunked"):
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            client.ask("GET", path)


def test_loses_the_answer_to_work_that_is_done(client: Client) -> None:
    client.rules({"do": "lose_answer", "method": "PUT"})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        client.ask("PUT", "/b/1", BIG)
    assert Backend.kept["/b/1"] == BIG


def test_takes_its_time(client: Client) -> None:
    client.ask("PUT", "/b/1", BIG)
    client.rules({"do": "slow", "rate": len(BIG) * 4}, {"do": "delay", "seconds": 0.2, "method": "PUT"})
    for method, body, least in (("GET", None, 0.25), ("PUT", BIG, 0.45)):
        begun = time.monotonic()
        assert client.ask(method, "/b/1", body)[0] == 200
        assert least <= time.monotonic() - begun < least + 2


def test_is_down_until_the_rules_change(client: Client) -> None:
    held = http.client.HTTPConnection("127.0.0.1", client.proxy.port, timeout=10)
    held.request("PUT", "/b/1", b"x")
    held.getresponse().read()
    client.rules({"do": "down"})
    assert held.sock.recv(1) == b"", "who is connected is cut off"
    with pytest.raises(ConnectionRefusedError):
        client.ask("GET", "/b/1")
    client.rules()
    assert client.ask("GET", "/b/1") == (200, b"x")


def test_has_another_clock(client: Client) -> None:
    client.rules({"do": "skew", "seconds": 1200})
    status, body = client.ask("PUT", "/b/1", b"x", x_amz_date="20300101T000000Z")
    assert (status, code(body)) == (403, "RequestTimeTooSkewed")
    assert ElementTree.fromstring(body).findtext("RequestTime") == "20300101T000000Z"
    client.rules({"do": "skew", "seconds": 600})
    assert client.ask("PUT", "/b/1", b"x")[0] == 200


@pytest.mark.parametrize(
    ("sizes", "accepted"), [([9, 9, 4], True), ([9, 9], True), ([9], True), ([9, 8, 9], False), ([8, 9], False)]
)
def test_wants_equal_parts(client: Client, sizes: list[int], accepted: bool) -> None:
    client.rules({"do": "equal_parts"})
    for number, size in enumerate(sizes, 1):
        assert client.ask("PUT", f"/b/1?partNumber={number}&uploadId=u", b"x" * size)[0] == 200
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber></Part>" for n in range(1, len(sizes) + 1))
    status, body = client.ask("POST", "/b/1?uploadId=u", f'<C xmlns="http://s3">{parts}</C>'.encode())
    assert status == (200 if accepted else 400)
    assert accepted or code(body) == "InvalidPart"
    assert ("/b/1?uploadId=u" in Backend.kept) is accepted


def test_refuses_the_checksum_header(client: Client) -> None:
    client.rules({"do": "refuse_header"})
    status, body = client.ask("PUT", "/b/1", b"x", x_amz_sdk_checksum_algorithm="CRC32")
    assert status == 400
    assert b"Unsupported header" in body
    assert client.ask("PUT", "/b/1", b"x")[0] == 200


def test_refuses_rules_that_it_does_not_know(client: Client) -> None:
    client.rules({"do": "answer"})
    assert client.rules({"do": "sing"}) == 400
    assert client.rules({"do": "answer", "times": 3}) == 400
    assert client.ask("GET", "/b/1")[0] == 503, "the rules before stay"

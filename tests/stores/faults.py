"""A proxy in front of a store that misbehaves on order, as real stores do now and then.

Requests pass unchanged, so signatures stay valid. Each rule matches requests by `method` and `path` (regular
expressions; the path is with the query, so that "partNumber=" finds the parts of an upload), lets the first `skip` of
them pass and then does the following to `count` of them (null: to all until the rules are changed):

    answer         status 500, 503, 429, 403, 404, 507 and what a store says with it; `code` for another error code
    cut_request    the connection is reset after `bytes` of the request's body; the store sees an unfinished request
    cut_answer     the connection is reset after `bytes` of the answer's body
    lose_answer    the store does the work, the client never hears of it
    delay          nothing for `seconds`, then as usual
    slow           `rate` bytes per second in both directions
    down           nothing listens (matches no requests; until the rules are changed)
    skew           the store's clock is `seconds` ahead: requests are refused as too skewed, as S3 does from 15 minutes
    equal_parts    CompleteMultipartUpload is refused when parts differ in size, but for a smaller last one (R2)
    refuse_header  requests with `header` are refused as B2 does (default: x-amz-sdk-checksum-algorithm)

The first rule that matches acts; those that may let a request pass (slow, delay and the last three) let the next one
act too. The control port speaks plain HTTP: PUT /
with a JSON list of rules replaces all rules and empties the log, GET / gives {"rules": [...], "log": [{"method",
"path", "status", "fault", "body_bytes"}, ...]}, where status is null if none was sent, and fault names what was done.
"""

from __future__ import annotations

import argparse
import contextlib
import email.utils
import http.client
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

CODES = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    429: ("TooManyRequests", "Please reduce your request rate."),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
    507: ("InsufficientStorage", "The store is full."),
}
DOES = (
    *("answer", "cut_request", "cut_answer", "lose_answer", "delay", "slow", "down", "skew", "equal_parts"),
    "refuse_header",
)
MAY_PASS = ("slow", "delay", "skew", "equal_parts", "refuse_header")
CHUNK = 64 << 10
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection", "te", "upgrade"}


@dataclass
class Rule:
    do: str
    method: str = ".*"
    path: str = ".*"
    skip: int = 0
    count: int | None = None
    status: int = 503
    code: str = ""
    bytes: int = 0
    seconds: float = 0
    rate: int = 0
    header: str = "x-amz-sdk-checksum-algorithm"

    def __post_init__(self) -> None:
        if self.do not in DOES:
            raise ValueError(f"no fault is called {self.do}; known are {', '.join(DOES)}")

    def takes(self, method: str, path: str) -> bool:
        """Whether this request is one of those that it is meant for; counts it."""
        if self.do == "down" or not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.count is not None:
            self.count -= 1
        return self.count is None or self.count >= 0


class Reset(Exception):
    """The client's connection is to end at once, in the middle."""


class Refusal(Exception):
    """An answer of the proxy's own."""

    def __init__(self, status: int, code: str = "", text: str = "", **more: str) -> None:
        super().__init__(code)
        usual = CODES.get(status, ("Error", "This request failed on order."))
        self.status, self.code, self.text, self.more = status, code or usual[0], text or usual[1], more

    def body(self) -> bytes:
        root = ElementTree.Element("Error")
        for name, value in {"Code": self.code, "Message": self.text, **self.more, "RequestId": "fault"}.items():
            ElementTree.SubElement(root, name).text = value
        return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)

    def json_body(self) -> bytes:
        words = {"SlowDown": "service_unavailable", "NoSuchKey": "not_found"}
        code = words.get(self.code) or re.sub(r"(?<!^)(?=[A-Z])", "_", self.code).lower()
        return json.dumps({"status": self.status, "code": code, "message": self.text}).encode()


class Proxy:
    """The proxy and its control port.

    @param backend: host and port of the store, plain HTTP
    @param tls: certificate and key files; without them the proxy speaks plain HTTP
    @param speaks_json: errors look like those of native B2, not of S3
    """

    def __init__(
        self, port: int, control_port: int, backend: tuple[str, int], tls: tuple[str, str] | None = None,
        speaks_json: bool = False,
    ) -> None:  # fmt: skip
        self.backend, self.speaks_json = backend, speaks_json
        self.lock = threading.RLock()
        self.rules: list[Rule] = []
        self.log: deque[dict[str, Any]] = deque(maxlen=10_000)
        self.parts: dict[tuple[str, str], int] = {}
        self.clients: set[socket.socket] = set()
        self.context: ssl.SSLContext | None = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.server: Server | None = Server(("", port), Handler, self)
        self.port = self.server.server_port
        self.control = Server(("", control_port), Control, self)
        self.control_port = self.control.server_port

    def run(self) -> None:
        self.listen()
        self.control.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        self.hang_up()
        self.control.shutdown()
        self.control.server_close()

    def listen(self) -> None:
        if self.server is None:
            self.server = Server(("", self.port), Handler, self)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def hang_up(self) -> None:
        """Nothing listens any more, and who is connected is cut off."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for client in list(self.clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def set_rules(self, rules: list[dict[str, Any]]) -> None:
        made = [Rule(**rule) for rule in rules]
        with self.lock:
            self.rules = made
            self.log.clear()
            if any(rule.do == "down" for rule in made):
                self.hang_up()
            elif self.server is None:
                self.listen()

    def state(self) -> dict[str, Any]:
        with self.lock:
            return {"rules": [asdict(rule) for rule in self.rules], "log": list(self.log)}

    def faults_for(self, method: str, path: str) -> list[Rule]:
        """The rules for this request: those that may let it pass, up to the first other one."""
        found = []
        with self.lock:
            for rule in self.rules:
                if rule.takes(method, path):
                    found.append(rule)
                    if rule.do not in MAY_PASS:
                        break
        return found


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def reset(connection: socket.socket) -> None:
    """Ends a connection as a crash does: with a reset, not politely."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Without its TLS layer, which would say good-bye first.
        socket.socket(fileno=connection.detach()).close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        self.proxy = self.server.proxy
        self.request.settimeout(300)
        if self.proxy.context:
            self.request = self.proxy.context.wrap_socket(self.request, server_side=True)
        self.proxy.clients.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.proxy.clients.discard(self.request)
        with contextlib.suppress(OSError):
            super().finish()
            self.request.close()

    def log_message(self, *words: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            self.pass_on()
            self.wfile.flush()

    def pass_on(self) -> None:
        """One request through the faults to the store, and the answer back."""
        faults = self.proxy.faults_for(self.command, self.path)
        self.entry: dict[str, Any] = {"method": self.command, "path": self.path, "status": None, "body_bytes": 0}
        self.entry["fault"] = next((rule.do for rule in reversed(faults) if rule.do not in MAY_PASS[2:]), None)
        self.rate = next((rule.rate for rule in faults if rule.do == "slow"), 0)
        self.chunk = min(CHUNK, self.rate // 4 + 1) if self.rate else CHUNK
        with self.proxy.lock:
            self.proxy.log.append(self.entry)
        body = self.body()
        self.store = http.client.HTTPConnection(*self.proxy.backend, timeout=300)
        try:
            for rule in faults:
                self.act(rule)
            do = {rule.do: rule for rule in faults}
            piped = self.cut(body, do["cut_request"]) if "cut_request" in do else body
            self.ask(self.checked(piped) if "equal_parts" in do else piped)
            answer = self.store.getresponse()
            if "lose_answer" in do:
                answer.read()
                raise Reset
            self.give(answer, do["cut_answer"].bytes if "cut_answer" in do else None)
        except Refusal as refusal:
            # Read to its end first, or the client sees a broken connection instead of the answer.
            for _ in body:
                pass
            self.refuse(refusal)
        except (Reset, OSError, http.client.HTTPException):
            self.close_connection = True
            reset(self.request)
        finally:
            self.store.close()

    def act(self, rule: Rule) -> None:
        """What a rule does before the store hears of the request.

        @raises Refusal: the store is not to hear of it
        """
        if rule.do == "answer":
            raise Refusal(rule.status, rule.code)
        if rule.do == "delay":
            time.sleep(rule.seconds)
        if rule.do == "refuse_header" and rule.header.lower() in self.headers:
            self.entry["fault"] = rule.do
            text = f"Unsupported header '{rule.header}' received for this API call."
            raise Refusal(400, "InvalidArgument", text)
        if rule.do == "skew" and rule.seconds > 900:
            self.entry["fault"] = rule.do
            now = time.time() + rule.seconds
            raise Refusal(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                RequestTime=self.headers.get("x-amz-date", ""),
                ServerTime=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
                MaxAllowedSkewMilliseconds="900000",
                Date=email.utils.formatdate(now, usegmt=True),
            )

    # -- the request --------------------------------------------------------------------------------------------------

    def body(self) -> Iterator[bytes]:
        """The request's body in pieces, at the ordered speed."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self.exactly(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield from self.exactly(int(self.headers.get("Content-Length") or 0))

    def exactly(self, size: int) -> Iterator[bytes]:
        while size:
            try:
                piece = self.rfile.read(min(size, self.chunk))
            except OSError as error:
                raise Reset from error
            if not piece:
                raise Reset
            size -= len(piece)
            self.entry["body_bytes"] += len(piece)
            self.take_time(piece)
            yield piece

    def take_time(self, piece: bytes) -> None:
        if self.rate:
            time.sleep(len(piece) / self.rate)

    def cut(self, body: Iterator[bytes], rule: Rule) -> Iterator[bytes]:
        left = rule.bytes
        for piece in body:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                raise Reset
        raise Reset

    def ask(self, body: Iterator[bytes]) -> None:
        """Sends the request to the store."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["X-Forwarded-Proto"] = "https" if self.proxy.context else "http"
        chunked = "Transfer-Encoding" in self.headers
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        has_body = chunked or "Content-Length" in self.headers
        self.watch_parts()
        try:
            self.store.request(self.command, self.path, body if has_body else None, headers, encode_chunked=chunked)
        except (BrokenPipeError, ConnectionResetError):
            # The store has answered before it read all; the client is to get that answer.
            for _ in body:
                pass

    def watch_parts(self) -> None:
        part = re.search(r"[?&]partNumber=(\d+)", self.path)
        size = self.headers.get("x-amz-decoded-content-length") or self.headers.get("Content-Length") or 0
        if part and self.command == "PUT":
            with self.proxy.lock:
                self.proxy.parts[self.upload_id(), part[1]] = int(size)

    def upload_id(self) -> str:
        found = re.search(r"[?&]uploadId=([^&]+)", self.path)
        return found[1] if found else ""

    def checked(self, body: Iterator[bytes]) -> Iterator[bytes]:
        """The body as it is, but the one that completes an upload is looked at first.

        @raises Refusal: its parts differ in size
        """
        if self.command != "POST" or not self.upload_id():
            yield from body
            return
        text = b"".join(body)
        numbers = [node.text or "" for node in ElementTree.fromstring(text).iter() if node.tag.endswith("PartNumber")]
        with self.proxy.lock:
            sizes = [self.proxy.parts.get((self.upload_id(), number), 0) for number in numbers]
        if len(set(sizes[:-1])) > 1 or sizes[-1:] > sizes[:1]:
            self.entry["fault"] = "equal_parts"
            raise Refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")
        yield text

    # -- the answer ---------------------------------------------------------------------------------------------------

    def give(self, answer: http.client.HTTPResponse, cut_after: int | None) -> None:
        """The store's answer to the client, or its beginning."""
        self.entry["status"] = answer.status
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        bare = self.command == "HEAD" or answer.status in (204, 304)
        chunked = not bare and answer.getheader("Content-Length") is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        given = 0
        while piece := answer.read(self.chunk if cut_after is None else min(self.chunk, cut_after - given)):
            self.take_time(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            given += len(piece)
        if cut_after is not None and given >= cut_after:
            raise Reset
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def refuse(self, refusal: Refusal) -> None:
        self.entry["status"] = refusal.status
        body = refusal.json_body() if self.proxy.speaks_json else refusal.body()
        self.send_response_only(refusal.status)
        self.send_header("Date", refusal.more.get("Date") or self.date_time_string())
        self.send_header("Content-Type", "application/json" if self.proxy.speaks_json else "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Control(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, self.server.proxy.state())

    def do_PUT(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self.server.proxy.set_rules(json.loads(text))
        except (TypeError, ValueError) as error:
            self.reply(400, {"error": str(error)})
        else:
            self.reply(200, self.server.proxy.state())

    def reply(self, status: int, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description="See the first lines of this file.")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--control-port", type=int, default=8080)
    parser.add_argument("--backend-port", type=int, default=7480)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--json", action="store_true", help="errors as native B2 writes them")
    words = parser.parse_args()
    tls = tuple(words.tls) if words.tls else None
    Proxy(words.port, words.control_port, ("127.0.0.1", words.backend_port), tls, words.json).run()


if __name__ == "__main__":
    main()

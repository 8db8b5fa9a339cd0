#!/usr/bin/env python3
"""Four clouds on the loopback address: the APIs of Hetzner Cloud, DigitalOcean, Vultr and Linode for tests.

    tests/cloud/simulator.py [--port 0] [--hosts 100] [--latency 0.08] [--scenario none]

The first line that it prints is JSON: for each provider the base address (option api_url) and the token. A test that
runs in Python uses the class. GET /control/log is what was asked, GET /control/violations the rules that were broken;
PUT /control takes {"hosts": N, "latency": S, "scenario": NAME, "provider": NAME} and begins anew.

It is written from the documents of the providers, not from what our plugins send. Where the documents are silent it
says so in place.
"""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.cloud.api import Account, Answer, Api, Clock
from tests.cloud.digitalocean import DigitalOcean
from tests.cloud.fleet import Machine, fleet
from tests.cloud.hetzner import Hetzner
from tests.cloud.linode import Linode
from tests.cloud.vultr import Vultr

APIS: tuple[type[Api], ...] = (Hetzner, DigitalOcean, Vultr, Linode)
PROVIDERS = tuple(api.name for api in APIS)


@dataclass
class Fault:
    """What goes wrong with some of the requests.

    @param kind: status, or one of the methods of Handler that begin with "send_"; "edit" changes a good answer
    @param times: so many requests, then no more; 0 is for ever
    @param skip: so many requests go well before
    @param path: of the requests that are meant; "" is all of them
    """

    kind: str
    times: int = 1
    skip: int = 0
    path: str = ""
    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    edit: Callable[[Any], Any] | None = None

    def meets(self, path: str) -> bool:
        if self.path and self.path != path:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times < 0:
            return False
        self.times = self.times - 1 or -1 if self.times else 0
        return True


@dataclass
class Asked:
    """A line of the log; the token is not in it."""

    provider: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    account: str
    status: int
    answer: Any
    violations: list[str]
    connection: int
    begun: float


class Simulator:
    """All of it; start() and stop(), or as a context."""

    def __init__(self, hosts: int = 0, latency: float = 0.0, port: int = 0, certificate: Path | None = None) -> None:
        """@param certificate: a folder with cert.pem and key.pem; without it, it is plain HTTP"""
        self.latency, self.scheme = latency, "https" if certificate else "http"
        self.clock = Clock()
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.log: list[Asked] = []
        self.faults: dict[str, list[Fault]] = {}
        # Called with the provider after each answered list of servers.
        self.watchers: list[Callable[[str], None]] = []
        self.prepared: dict[Any, bytes] = {}
        self.reset(hosts)
        self.server = Server(("127.0.0.1", port), self)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            # Each connection shakes hands in its own thread.
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )

    def reset(self, hosts: int = 0) -> None:
        """As new: one account at each provider, with so many servers."""
        self.apis: dict[str, Api] = {api.name: api(self.clock) for api in APIS}
        self.clock.skew = 0
        self.faults = {name: [] for name in PROVIDERS}
        self.watchers.clear()
        self.prepared.clear()
        self.log.clear()
        machines = fleet(hosts)
        for provider in PROVIDERS:
            self.add_account(provider, "main", machines)

    def add_account(self, provider: str, name: str, machines: Sequence[Machine] = (), **words: Any) -> Account:
        api = self.apis[provider]
        account = api.add_account(name, **words)
        api.fill(account, list(machines))  # type: ignore[attr-defined]
        return account

    def account(self, provider: str, name: str = "main") -> Account:
        return next(one for one in self.apis[provider].accounts.values() if one.name == name)

    def fill(self, provider: str, machines: Sequence[Machine]) -> None:
        """More servers for the account."""
        self.apis[provider].fill(self.account(provider), list(machines))  # type: ignore[attr-defined]

    def fault(self, provider: str, kind: str, **words: Any) -> None:
        self.faults[provider].append(Fault(kind, **words))

    def url(self, provider: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}{self.apis[provider].prefix}"

    def token(self, provider: str, account: str = "main") -> str:
        return self.account(provider, account).token

    def asked(self, provider: str) -> list[Asked]:
        return [one for one in self.log if one.provider == provider]

    @property
    def violations(self) -> list[str]:
        return [f"{one.method} {one.path}: {text}" for one in self.log for text in one.violations]

    def start(self) -> Simulator:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *_words: object) -> None:
        self.stop()

    def control(self, orders: dict[str, Any]) -> None:
        from tests.cloud.situations import SITUATIONS

        self.reset(orders.get("hosts", 0))
        self.latency = orders.get("latency", self.latency)
        if orders.get("scenario", "none") != "none":
            for provider in [orders["provider"]] if "provider" in orders else PROVIDERS:
                SITUATIONS[orders["scenario"]].prepare(self, provider)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], simulator: Simulator) -> None:
        self.simulator = simulator
        self.connections = 0
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        with self.server.simulator.lock:
            self.server.connections += 1
            self.number = self.server.connections

    def log_message(self, *_words: Any) -> None:
        """The log is kept in memory."""

    def handle_any(self) -> None:
        simulator, begun = self.server.simulator, time.monotonic()
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        if address.path.startswith("/control"):
            self.control(address.path, raw)
            return
        api = next((one for one in simulator.apis.values() if address.path.startswith(one.prefix + "/")), None)
        if api is None:
            self.send_whole(Answer(404, {"error": "no API here"}))
            return
        path, query = address.path[len(api.prefix) :], parse_qs(address.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if simulator.latency:
            time.sleep(simulator.latency)
        asked = Asked(
            api.name, self.command, path, query, {**headers, "authorization": "***"}, self.readable(raw),
            "", 0, None, [], self.number, begun,
        )  # fmt: skip
        with simulator.lock:
            simulator.log.append(asked)
            fault = next((one for one in simulator.faults[api.name] if one.meets(path)), None)
        if fault and fault.kind == "status":
            # A service that is down does not look at the token either, and a limit counts nothing.
            asked.status = fault.status
            self.send_whole(Answer(fault.status, fault.body, fault.headers))
            return
        base = f"{simulator.scheme}://{self.headers.get('Host')}{api.prefix}"
        try:
            answer, asked.violations, account = api.answer(self.command, path, query, headers, raw, base)
        except Exception:
            # A mistake of ours must not look like a service that is down.
            asked.violations.append(f"the simulator failed: {traceback.format_exc()}")
            self.send_whole(Answer(501, {"error": "the simulator failed"}))
            return
        if any(word in self.path for word in api.accounts):
            asked.violations.append("the token is in the address")
        asked.status, asked.account, asked.answer = answer.status, account.name if account else "", answer.body
        answer = Answer(answer.status, answer.body, {**api.limit_headers(), **answer.headers})
        if fault and fault.edit:
            with api.lock:
                answer = Answer(answer.status, fault.edit(json.loads(json.dumps(answer.body))), answer.headers)
        if fault and fault.kind != "edit":
            getattr(self, "send_" + fault.kind)(answer, fault)
        else:
            key = None
            if self.command == "GET" and account and not fault:
                key = (api.name, account.name, account.version, self.path, headers.get("x-filter"))
            self.send_whole(answer, key=key)
        if path == api.list_path and self.command == "GET":
            with simulator.lock:
                for watch in list(simulator.watchers):
                    watch(api.name)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    @staticmethod
    def readable(raw: bytes) -> Any:
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode(errors="replace")

    def control(self, path: str, raw: bytes) -> None:
        simulator = self.server.simulator
        body: Any = {}
        if self.command == "PUT":
            simulator.control(json.loads(raw or b"{}"))
        elif path.endswith("/violations"):
            body = simulator.violations
        else:
            body = [{**vars(one), "answer": None} for one in simulator.log]
        self.send_whole(Answer(200, body))

    # -- answers ------------------------------------------------------------------------------------------------------

    def head(self, answer: Answer, data: bytes, length: int | None = None, kind: str = "application/json") -> None:
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(self.server.simulator.clock.now(), usegmt=True))
        if answer.status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def packed(self, answer: Answer, key: Any = None) -> tuple[Answer, bytes]:
        """The body as it goes over the wire; an answer that was given before is not made again."""
        zipped = "gzip" in self.headers.get("Accept-Encoding", "")
        known = self.server.simulator.prepared
        key = key and (*key, zipped)
        data = known.get(key) if key else None
        if data is None:
            body = answer.body
            data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
            if zipped:
                data = gzip.compress(data, 1)
            if key:
                known[key] = data
        return (Answer(answer.status, None, {**answer.headers, "Content-Encoding": "gzip"}) if zipped else answer), data

    def send_whole(self, answer: Answer, fault: Fault | None = None, key: Any = None) -> None:
        answer, data = self.packed(answer, key)
        self.head(answer, data, kind="text/html" if data[:1] == b"<" else "application/json")
        if answer.status != 204:
            self.wfile.write(data)
        self.wfile.flush()

    def send_truncated(self, answer: Answer, fault: Fault) -> None:
        """Half of the JSON, with the length of the half: only the parser can tell."""
        text = json.dumps(answer.body)
        self.send_whole(Answer(answer.status, text[: len(text) // 2], answer.headers))

    def send_cut(self, answer: Answer, fault: Fault) -> None:
        """Half of the bytes that were promised, then the connection ends."""
        answer, data = self.packed(answer)
        self.head(answer, data)
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.close_connection = True

    def send_reset(self, answer: Answer, fault: Fault) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # The socket is closed at once, or the end would be an orderly one.
        self.connection.close()
        self.wfile = open("/dev/null", "wb")  # noqa: SIM115

    def send_closed(self, answer: Answer, fault: Fault) -> None:
        """The end without a word, as of a connection that was idle for too long."""
        self.close_connection = True

    def send_html(self, answer: Answer, fault: Fault) -> None:
        page = "<html><head><title>Down</title></head><body><h1>We are at work</h1></body></html>"
        self.send_whole(Answer(fault.status or 200, page))

    def send_nothing(self, answer: Answer, fault: Fault) -> None:
        self.send_whole(Answer(fault.status or 200, ""))

    def send_late(self, answer: Answer, fault: Fault) -> None:
        self.server.simulator.stopped.wait(fault.seconds)
        self.send_whole(answer)

    def send_never(self, answer: Answer, fault: Fault) -> None:
        self.server.simulator.stopped.wait(600)
        self.close_connection = True

    def send_drops(self, answer: Answer, fault: Fault) -> None:
        """A byte each moment: no single read takes long."""
        answer, data = self.packed(answer)
        self.head(answer, data)
        for byte in data:
            if self.server.simulator.stopped.wait(fault.seconds or 0.3):
                break
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
        self.close_connection = True

    def send_badzip(self, answer: Answer, fault: Fault) -> None:
        """What says that it is gzip and is not."""
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"\x1f\x8bnothing")
        self.wfile.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--hosts", type=int, default=100, help="servers at each provider")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--scenario", default="none", help="a situation of tests/cloud/situations.py")
    arguments = parser.parse_args()
    simulator = Simulator(port=arguments.port).start()
    simulator.control({"hosts": arguments.hosts, "latency": arguments.latency, "scenario": arguments.scenario})
    print(
        json.dumps({name: {"api_url": simulator.url(name), "api_token": simulator.token(name)} for name in PROVIDERS}),
        flush=True,
    )
    try:
        simulator.stopped.wait()
    except KeyboardInterrupt:
        simulator.stop()


if __name__ == "__main__":
    main()

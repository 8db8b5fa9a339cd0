# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kept-alive connections to one API: TLS, proxies, gzip, and an end for answers that drip."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import threading
import time
import zlib
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

# Servers close idle connections; one that was not used for this long is not tried again.
IDLE_SECONDS = 4.0
MOST_BYTES = 64 << 20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Answer(NamedTuple):
    """@param headers: with names in lower case"""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class ExchangeError(Exception):
    """No whole answer came.

    @param sent: whether the request may have reached the server
    @param final: whether trying again cannot help
    """

    def __init__(self, text: str, sent: bool, final: bool = False) -> None:
        super().__init__(text)
        self.sent, self.final = sent, final


def proxy_for(url: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for an address."""
    if not any(name.lower().endswith("_proxy") for name in os.environ) or url.hostname in LOOPBACK:
        return None
    from urllib import request

    proxy = request.getproxies().get(url.scheme)
    if not proxy or request.proxy_bypass(url.hostname or ""):
        return None
    return urlsplit(proxy if "//" in proxy else f"http://{proxy}")


def basic(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


class Pool:
    """Up to so many connections to one address, each used by one thread at a time."""

    def __init__(self, address: str, connections: int) -> None:
        self.url = urlsplit(address)
        self.proxy = proxy_for(self.url)
        self.lock = threading.Lock()
        self.room = threading.BoundedSemaphore(connections)
        self.idle: list[tuple[float, http.client.HTTPConnection]] = []
        self.busy: set[http.client.HTTPConnection] = set()
        self.tls = None
        if self.url.scheme == "https":
            import ssl

            self.tls = ssl.create_default_context()

    def open(self) -> http.client.HTTPConnection:
        place = self.proxy or self.url
        host, secure = place.hostname or "", self.url.scheme == "https"
        port = place.port or (443 if place.scheme == "https" else 80)
        if not secure:
            return http.client.HTTPConnection(host, port)
        connection = http.client.HTTPSConnection(host, port, context=self.tls)
        if self.proxy:
            connection.set_tunnel(self.url.hostname or "", self.url.port or 443, basic(self.proxy))
        return connection

    def take(self) -> http.client.HTTPConnection:
        with self.lock:
            while self.idle:
                since, connection = self.idle.pop()
                if time.monotonic() - since < IDLE_SECONDS:
                    break
                connection.close()
            else:
                connection = self.open()
            self.busy.add(connection)
            return connection

    def give_back(self, connection: http.client.HTTPConnection, usable: bool) -> None:
        with self.lock:
            self.busy.discard(connection)
            if usable:
                self.idle.append((time.monotonic(), connection))
        if not usable:
            connection.close()

    def exchange(self, method: str, target: str, body: bytes | None, headers: dict[str, str], seconds: float) -> Answer:
        """One request and its whole answer, in so many seconds.

        @param target: path and query
        @raises ExchangeError: if there was no whole answer
        """
        if self.proxy and self.url.scheme == "http":
            target = f"http://{self.url.netloc}{target}"
            headers = {**headers, **basic(self.proxy)}
        with self.room:
            connection = self.take()
            usable = sent = False
            until = time.monotonic() + seconds
            try:
                connection.timeout = seconds
                if connection.sock is None:
                    connection.connect()
                connection.sock.settimeout(seconds)
                sent = True
                connection.request(method, target, body=body, headers=headers)
                response = connection.getresponse()
                content = read(response, until)
                usable = not response.will_close
                named = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, response.reason, named, unpack(content, named))
            except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
                usable = False
                raise ExchangeError(words(error, seconds), sent, untrusted(error)) from error
            finally:
                self.give_back(connection, usable)

    def close(self) -> None:
        """Ends all connections, also those that a thread waits on."""
        with self.lock:
            connections = [*self.busy, *(connection for _since, connection in self.idle)]
            self.idle.clear()
        for connection in connections:
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
            if connection not in self.busy:
                connection.close()


def read(response: http.client.HTTPResponse, until: float) -> bytes:
    """The body. The time limit of a socket counts from byte to byte, so the whole is watched here."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise ValueError(f"it answered with more than {MOST_BYTES >> 20} MiB")
        if time.monotonic() > until:
            raise TimeoutError
    if response.length:
        raise ConnectionError(f"the answer ended {response.length} bytes too early")
    response.close()
    return b"".join(parts)


def unpack(body: bytes, headers: dict[str, str]) -> bytes:
    if headers.get("content-encoding", "").lower() != "gzip" or not body:
        return body
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(body, MOST_BYTES)
    if not unpacker.eof:
        raise ValueError("the compressed answer has no end")
    return plain


def untrusted(error: BaseException) -> bool:
    return type(error).__name__ == "SSLCertVerificationError"


def words(error: BaseException, seconds: float) -> str:
    """What happened, for a sentence that begins with the request."""
    if isinstance(error, TimeoutError):
        return f"no whole answer came within {seconds:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, socket.gaierror):
        return f"the name of the API could not be resolved ({error.strerror})"
    if untrusted(error):
        return f"the certificate of the API is not trusted ({getattr(error, 'verify_message', '')})"
    if isinstance(error, (ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return f"the connection was cut ({error or type(error).__name__})"
    return f"the answer could not be read ({error or type(error).__name__})"

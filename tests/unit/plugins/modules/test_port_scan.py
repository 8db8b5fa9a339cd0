"""port_scan: against sockets of this very process."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from plugins.modules import port_scan


def test_ports_and_ranges():
    assert port_scan.ports_of(["443", "20-22", "21:23"]) == [20, 21, 22, 23, 443]
    assert port_scan.ranges_of({1, 2, 3, 7}) == ["1-3", "7"]
    assert port_scan.ranges_of(set()) == []
    for text in ("0", "1-65536", "web"):
        with pytest.raises(ValueError):  # noqa: PT011
            port_scan.ports_of([text])


@contextlib.contextmanager
def listening(kind=socket.SOCK_STREAM, family=socket.AF_INET):
    with socket.socket(family, kind) as one:
        one.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            one.listen(100)
        yield one, one.getsockname()[1]


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_open_and_refused_ports(family, address):
    with listening(family=family) as (_one, first), listening(family=family) as (_two, second):
        # Few at a time, so that numbers of sockets are used again and again.
        ports = sorted({*range(1, 5000), first, second})
        opened, refused = port_scan.scan_tcp(family, address, ports, 5, 50)
    assert {first, second} <= opened
    assert len(refused) > 4900
    assert len(opened) + len(refused) == len(ports)


def test_silent_port_takes_its_time_and_no_more():
    """A queue that is full: the kernel drops what comes in."""
    with listening() as (one, port), contextlib.ExitStack() as stack:
        one.listen(0)
        for _attempt in range(4):
            full = stack.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(("127.0.0.1", port))
        assert port_scan.scan_tcp(socket.AF_INET, "127.0.0.1", [port], 0.3, 10) == (set(), set())


def test_udp():
    with listening(socket.SOCK_DGRAM) as (answers, port), listening(socket.SOCK_DGRAM) as (_silent, deaf):

        def answer():
            _data, where = answers.recvfrom(99)
            answers.sendto(b"yes", where)

        thread = threading.Thread(target=answer)
        thread.start()
        with listening(socket.SOCK_DGRAM) as (_gone, closed):
            pass
        found = port_scan.scan_udp(socket.AF_INET, "127.0.0.1", [port, deaf, closed], 0.3)
        thread.join()
    assert found == ({port}, {closed})


def test_what_cannot_be_scanned_is_said(run_module, monkeypatch):
    result = run_module(port_scan, addresses=["127.0.0.1", "no.such.host.invalid"], tcp_ports=["1"])
    assert [scan["skipped"] for scan in result["scans"]] == [
        "the scanner itself has this address",
        "the name does not resolve",
    ]
    assert "write them like 443" in run_module(port_scan, addresses=["127.0.0.1"], tcp_ports=["http"])["msg"]
    monkeypatch.setattr(port_scan, "source_towards", lambda *_: "127.0.0.9")
    with listening() as (_one, port):
        scan = run_module(port_scan, addresses=["127.0.0.1"], tcp_ports=[str(port)], udp_ports=[9])["scans"][0]
    assert scan["tcp_open"] == [port]

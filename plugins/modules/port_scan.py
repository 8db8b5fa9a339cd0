#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: port_scan
short_description: See which ports of a host answer, from where the module runs
description:
  - Connects to TCP ports, and asks UDP ports a question in their own language. Changes nothing.
  - A TCP port is open when the connection is made, so what is found open is open. A UDP port is open when it answers;
    a service that is silent towards strangers, such as WireGuard, cannot be seen by anybody.
  - For your own hosts only.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  addresses:
    description: Addresses or names of the host. One that is the scanner's own or without a route is skipped.
    type: list
    elements: str
    required: true
  tcp_ports:
    description: TCP ports, single ones or ranges like V(1-65535).
    type: list
    elements: str
    default: [1-65535]
  udp_ports:
    description: UDP ports.
    type: list
    elements: int
    default: []
  timeout_seconds:
    description: How long to wait for an answer. Below V(1.1) a lost packet is not sent again.
    type: float
    default: 1.5
  connections:
    description: How many connections to try at a time.
    type: int
    default: 4000
"""

EXAMPLES = r"""
- name: Scan a host from the controller
  bulwark.stack.port_scan:
    addresses: [203.0.113.7, "2001:db8::7"]
    udp_ports: [53, 123]
  delegate_to: localhost
"""

RETURN = r"""
scans:
  description: One for each address.
  returned: always
  type: list
  elements: dict
  contains:
    address: {description: The address., type: str, returned: always}
    skipped: {description: "Why it was not scanned, empty when it was.", type: str, returned: always}
    source: {description: The address that the scanner has towards it., type: str, returned: always}
    tcp_open: {description: TCP ports that accept connections., type: list, elements: int, returned: always}
    tcp_refused: {description: "TCP ports that refuse, as ranges.", type: list, elements: str, returned: always}
    udp_open: {description: UDP ports that answer., type: list, elements: int, returned: always}
    udp_refused: {description: UDP ports that say that nobody listens., type: list, elements: int, returned: always}
"""

import errno
import resource
import select
import socket
import struct
import time
from collections import deque
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SPEC = {
    "addresses": {"type": "list", "elements": "str", "required": True},
    "tcp_ports": {"type": "list", "elements": "str", "default": ["1-65535"]},
    "udp_ports": {"type": "list", "elements": "int", "default": []},
    "timeout_seconds": {"type": "float", "default": 1.5},
    "connections": {"type": "int", "default": 4000},
}
NOTHING: dict[str, list[int]] = {"tcp_open": [], "tcp_refused": [], "udp_open": [], "udp_refused": []}
# A first packet that the service answers to, whoever asks; see the RFC of each.
QUESTIONS = {
    53: bytes.fromhex("123401000001000000000000") + b"\x00\x00\x02\x00\x01",
    69: b"\x00\x01none\x00octet\x00",
    111: struct.pack(">10I", 1, 0, 2, 100000, 2, 0, 0, 0, 0, 0),
    123: b"\x1b" + bytes(47),
    137: bytes.fromhex("123400000001000000000000") + b"\x20CK" + b"A" * 30 + b"\x00\x00\x21\x00\x01",
    161: bytes.fromhex("302602010104067075626c6963a019020101020100020100300e300c06082b060102010101000500"),
    389: bytes.fromhex("3025020101632004000a01000a0100020100020100010100870b6f626a656374436c6173733000"),
    1900: b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n',
    3478: bytes.fromhex("000100002112a442") + b"bulwarkscan1",
    5353: bytes.fromhex("000000000001000000000000") + b"\x09_services\x07_dns-sd\x04_udp\x05local\x00\x00\x0c\x80\x01",
    11211: b"\x00\x01\x00\x00\x00\x01\x00\x00stats\r\n",
}


def ports_of(texts: list[str]) -> list[int]:
    """Ports in ascending order from single ones and ranges.

    @raises ValueError: one of them is no port
    """
    found: set[int] = set()
    for text in texts:
        first, _sep, last = text.replace(":", "-").partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    if found and not 0 < min(found) <= max(found) < 65536:
        raise ValueError("ports are between 1 and 65535")
    return sorted(found)


def ranges_of(ports: set[int]) -> list[str]:
    """Ports as ranges, the shorter way to say them."""
    done: list[list[int]] = []
    for port in sorted(ports):
        if done and done[-1][1] == port - 1:
            done[-1][1] = port
        else:
            done.append([port, port])
    return [f"{first}-{last}" if last > first else str(first) for first, last in done]


def begin(family: int, address: str, port: int) -> tuple[socket.socket, int]:
    """A TCP socket that is on its way, and what the kernel said."""
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # An open connection is dropped at once, and leaves nothing behind on either side.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return one, one.connect_ex((address, port))


def scan_tcp(
    family: int, address: str, ports: list[int], timeout: float, connections: int
) -> tuple[set[int], set[int]]:
    """The ports that are open, and those that say no; all others were silent."""
    waiting = deque(ports)
    flying: dict[int, tuple[socket.socket, int]] = {}
    opened: set[int] = set()
    refused: set[int] = set()
    # With the port, because a closed socket's number is soon another one's.
    deadlines: deque[tuple[float, int, int]] = deque()

    def end(number: int, code: int) -> None:
        one, port = flying.pop(number)
        one.close()
        if code == 0:
            opened.add(port)
        elif code == errno.ECONNREFUSED:
            refused.add(port)

    with select.epoll() as poll:
        while waiting or flying:
            while waiting and len(flying) < connections:
                port = waiting.popleft()
                one, code = begin(family, address, port)
                number = one.fileno()
                flying[number] = (one, port)
                if code == errno.EINPROGRESS:
                    poll.register(number, select.EPOLLOUT)
                    deadlines.append((time.monotonic() + timeout, number, port))
                    continue
                end(number, code)
                if code in (errno.EADDRNOTAVAIL, errno.EAGAIN) and flying:
                    # The kernel has no more to give for now.
                    waiting.append(port)
                    break
            for number, _events in poll.poll(0.05):
                end(number, flying[number][0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            while deadlines:
                deadline, number, port = deadlines[0]
                over = number not in flying or flying[number][1] != port
                if not over and deadline > time.monotonic():
                    break
                deadlines.popleft()
                if not over:
                    end(number, errno.ETIMEDOUT)
    return opened, refused


def scan_udp(family: int, address: str, ports: list[int], timeout: float) -> tuple[set[int], set[int]]:
    """The ports that answer, and those of which the host says that nobody listens."""
    opened: set[int] = set()
    refused: set[int] = set()
    flying: dict[int, tuple[socket.socket, int]] = {}
    with select.epoll() as poll:
        for port in ports:
            one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            one.connect((address, port))
            flying[one.fileno()] = (one, port)
            poll.register(one, select.EPOLLIN)
        for _attempt in range(2):
            for number, (one, port) in list(flying.items()):
                try:
                    one.send(QUESTIONS.get(port, b"\x00"))
                except OSError:
                    refused.add(flying.pop(number)[1])
            deadline = time.monotonic() + timeout
            while flying and (left := deadline - time.monotonic()) > 0:
                for number, _events in poll.poll(left):
                    one, port = flying.pop(number)
                    try:
                        one.recv(1)
                        opened.add(port)
                    except OSError:
                        refused.add(port)
                    one.close()
        for one, _port in flying.values():
            one.close()
    return opened, refused


def resolve(text: str) -> list[tuple[int, str]]:
    """Family and address of everything that a name or an address stands for.

    @raises OSError: the name does not resolve
    """
    found = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(family), str(where[0])) for family, _type, _proto, _name, where in found))


def source_towards(family: int, address: str) -> str:
    """The own address towards another one; nothing is sent.

    @raises OSError: there is no route
    """
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect((address, 9))
        return str(one.getsockname()[0])


def scan(family: int, address: str, params: dict[str, Any], ports: list[int]) -> dict[str, Any]:
    try:
        source = source_towards(family, address)
    except OSError:
        return {"address": address, "source": "", "skipped": "the scanner has no route to it", **NOTHING}
    if source == address:
        return {"address": address, "source": source, "skipped": "the scanner itself has this address", **NOTHING}
    timeout = params["timeout_seconds"]
    opened, refused = scan_tcp(family, address, ports, timeout, params["connections"])
    answered, unheard = scan_udp(family, address, params["udp_ports"], timeout)
    return {
        "address": address,
        "source": source,
        "skipped": "",
        "tcp_open": sorted(opened),
        "tcp_refused": ranges_of(refused),
        "udp_open": sorted(answered),
        "udp_refused": sorted(unheard),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    try:
        ports = ports_of(params["tcp_ports"])
    except ValueError as exc:
        module.fail_json(msg=f"port_scan: tcp_ports: {exc}; write them like 443 or 1-65535.")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, params["connections"] + 200)), hard))
    params["connections"] = max(1, min(params["connections"], resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100))
    scans: dict[str, dict[str, Any]] = {}
    for text in params["addresses"]:
        try:
            found = resolve(text)
        except OSError:
            scans[text] = {"address": text, "source": "", "skipped": "the name does not resolve", **NOTHING}
            continue
        for family, address in found:
            if address not in scans:
                scans[address] = scan(family, address, params, ports)
    module.exit_json(changed=False, scans=list(scans.values()))


if __name__ == "__main__":
    main()

# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A server as all four clouds have it, and what follows from it: its variables, its address, its groups."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypedDict

RUNNING, STOPPED, PENDING, OTHER = "running", "stopped", "pending", "other"
FAMILIES = ("provider", "region", "plan", "status", "tag", "label", "role")
ROLE_KEYS = ("role", "bulwark-role")
ADDRESSES = ("public_ipv4", "public_ipv6", "private_ipv4", "name")
PRIVATE = re.compile(r"10\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.")


class Network(TypedDict):
    """@param name: None where the API does not say it with the server and was not asked for it"""

    id: str | None
    name: str | None
    address: str


class Server(TypedDict):
    """@param status: running, stopped, pending or other
    @param provider_status: the word of the provider for it
    @param tags: with C(key:value) for each label of a provider that has labels
    @param created: RFC 3339 in UTC
    @param provider_data: what the API says of the server, if that was asked for
    """

    id: str
    name: str
    region: str | None
    plan: str | None
    image: str | None
    status: str
    provider_status: str | None
    public_ipv4: str | None
    public_ipv6: str | None
    private_networks: list[Network]
    tags: list[str]
    labels: dict[str, str]
    created: str | None
    provider_data: dict[str, Any] | None


VARIABLES = (
    *("provider", "id", "name", "region", "plan", "image", "status", "provider_status", "public_ipv4", "public_ipv6"),
    *("private_ipv4", "private_networks", "tags", "labels", "created", "provider_data"),
)


def text(value: object) -> str | None:
    """A field that may be missing, null or empty."""
    return str(value) if value not in (None, "") else None


def inner(value: object) -> Mapping[str, Any]:
    """An object that may be missing or null."""
    return value if isinstance(value, Mapping) else {}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list that may be missing or null."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    return [str(one) for one in value if one is not None] if isinstance(value, list) else []


def ipv4(value: object) -> str | None:
    """An address that is one; providers write a missing one in several ways."""
    found = str(value or "").partition("/")[0]
    return None if found in ("", "0.0.0.0") else found  # noqa: S104


def public_ipv4(value: object) -> str | None:
    found = ipv4(value)
    return None if found and PRIVATE.match(found) else found


def host_ipv6(value: object) -> str | None:
    """An address of the host; of a network the first one, which is what the images configure."""
    found, slash, size = str(value or "").partition("/")
    if found in ("", "::"):
        return None
    if found.endswith("::") and size != "128":
        return found + "1"
    if not slash or size == "128":
        return found
    try:
        network = ipaddress.IPv6Network(value, strict=True)  # type: ignore[arg-type]
    except ValueError:
        return found
    return str(network.network_address + 1)


def utc(value: object) -> str | None:
    """A time in one form; without a zone it is UTC, as Linode has it."""
    if not value:
        return None
    written = str(value)
    if len(written) == 20 and written[-1] == "Z":
        return written
    if len(written) == 19 and written[10] == "T":
        return written + "Z"
    try:
        moment = datetime.fromisoformat(written.replace("Z", "+00:00"))
    except ValueError:
        return written
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def split_tag(tag: str) -> tuple[str, str] | None:
    """Key and value of a tag such as C(role:web) or C(role=web), None for others."""
    found = re.match(r"([^:=]+)[:=](.*)", tag, re.DOTALL)
    return (found[1], found[2]) if found else None


def labels_of(tags: Iterable[str]) -> dict[str, str]:
    """Labels out of tags; of several with one key the first counts."""
    found: dict[str, str] = {}
    for tag in tags:
        pair = split_tag(tag)
        if pair:
            found.setdefault(*pair)
    return found


def tags_of(labels: Mapping[str, str]) -> list[str]:
    """Labels as tags, so that a tag means the same everywhere."""
    return [f"{key}:{value}" if value else key for key, value in labels.items()]


def pairs(server: Server) -> Iterator[tuple[str, str]]:
    """All labels, also several with one key, as tags can have them."""
    yield from server["labels"].items()
    for tag in server["tags"]:
        pair = split_tag(tag)
        if pair and server["labels"].get(pair[0]) != pair[1]:
            yield pair


def roles(server: Server) -> Iterator[str]:
    """The groups that a server asks for. Values of Hetzner's labels have no comma, so a dot separates them too."""
    for key, value in pairs(server):
        if key.lower().replace("_", "-") in ROLE_KEYS:
            yield from (role for role in re.split(r"[\s,.]+", value) if role and role not in ("all", "ungrouped"))


def groups(provider: str, server: Server, families: Sequence[str], safe: Callable[[str], str]) -> set[str]:
    """Names of all groups of a server.

    @param families: which kinds of them
    @param safe: makes a valid name
    """
    found = set()
    if "provider" in families:
        found.add(f"provider_{provider}")
    if "region" in families and server["region"]:
        found.add(safe("region_" + server["region"]))
    if "plan" in families and server["plan"]:
        found.add(safe("plan_" + server["plan"]))
    if "status" in families:
        found.add("status_" + server["status"])
    if "tag" in families:
        found.update(safe("tag_" + tag) for tag in server["tags"] if tag)
    if server["tags"]:
        if "label" in families:
            # A label without a value is a tag, at all four.
            found.update(safe(f"label_{key}_{value}") for key, value in pairs(server) if value)
        if "role" in families:
            found.update(map(safe, roles(server)))
    return found


class Connecting:
    """How a host is reached: a list of addresses in order of preference.

    @raises ValueError: if one of them is none
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted: list[tuple[str, str]] = []
        for one in wanted:
            kind, colon, network = str(one).partition(":")
            if kind not in ADDRESSES or (colon and not (network and kind == "private_ipv4")):
                raise ValueError(
                    f"connect_with has '{one}'; it takes {', '.join(ADDRESSES)} and private_ipv4:NETWORK, alone or as "
                    "a list in order of preference"
                )
            self.wanted.append((kind, network))
        if not self.wanted:
            raise ValueError(f"connect_with is empty; give it one of {', '.join(ADDRESSES)}")
        self.networks = [network for _kind, network in self.wanted if network]

    def private_ipv4(self, server: Server) -> str | None:
        """In the network that is named first, else in the first one that the server is in."""
        return private_ipv4(server, self.networks[0] if self.networks else "")

    def address(self, server: Server) -> str | None:
        for kind, network in self.wanted:
            found: str | None
            if kind == "private_ipv4":
                found = private_ipv4(server, network)
            else:
                found = {"public_ipv4": server["public_ipv4"], "public_ipv6": server["public_ipv6"]}.get(
                    kind, server["name"]
                )
            if found:
                return found
        return None


def private_ipv4(server: Server, network: str = "") -> str | None:
    """The address in a network, by its name or id; in any without one."""
    for one in server["private_networks"]:
        if not network or network in (one["id"], one["name"]):
            return one["address"]
    return None


def age(server: Server) -> tuple[str, int, str]:
    """Sorts the oldest first, always in the same order."""
    number = int(server["id"]) if server["id"].isdigit() else 0
    return (server["created"] or "", number, server["id"])

"""Linode: its answer, in the shape that its documents show, as a server of the common schema."""

from __future__ import annotations

from typing import Any

from plugins.inventory import linode
from plugins.plugin_utils._cloud_filters import Filters
from plugins.plugin_utils._cloud_schema import Network

LINODE: dict[str, Any] = {
    "id": 42,
    "label": "web1",
    "status": "running",
    "created": "2026-02-03T04:05:06",
    "ipv4": ["192.168.130.7", "203.0.113.7"],
    "ipv6": "2001:db8:7::5/128",
    "region": "eu-central",
    "type": "g6-nanode-1",
    "image": "linode/debian13",
    "tags": ["env:prod", "spare"],
}
COMMON = {"name": "web1", "created": "2026-02-03T04:05:06Z", "public_ipv4": "203.0.113.7", "provider_data": None}


def test_linode():
    vpc = Network(id="9", name=None, address="10.0.0.2")
    assert linode.to_server(LINODE, [vpc], False) == {
        **COMMON,
        "id": "42",
        "region": "eu-central",
        "plan": "g6-nanode-1",
        "image": "linode/debian13",
        "status": "running",
        "provider_status": "running",
        "public_ipv6": "2001:db8:7::5",
        "private_networks": [vpc, {"id": None, "name": "private", "address": "192.168.130.7"}],
        "tags": ["env:prod", "spare"],
        "labels": {"env": "prod"},
    }


def test_a_server_of_which_nothing_but_the_id_is_known():
    """A narrow token leaves fields out, and any of them may be null."""
    bare = linode.to_server({"id": 42}, [], False)
    assert (bare["id"], bare["name"], bare["status"]) == ("42", "42", "other")
    assert bare == linode.to_server(dict.fromkeys(LINODE) | {"id": 42}, [], False)
    filled = (bare["public_ipv4"], bare["public_ipv6"], bare["private_networks"], bare["tags"], bare["labels"])
    assert filled == (None, None, [], [], {})


def query(**wanted: Any) -> Any:
    plugin = linode.InventoryModule()
    plugin.filters = Filters(wanted)
    return plugin.query()


def test_what_linode_is_asked_for():
    newest_first = {"+order_by": "id", "+order": "desc"}
    assert query() == newest_first
    assert query(region=["a", "b"], name="x*", labels={"env": "prod"}) == {
        "+and": [{"+or": [{"region": "a"}, {"region": "b"}]}, {"+or": [{"tags": "env:prod"}, {"tags": "env=prod"}]}],
        **newest_first,
    }

"""Hetzner: its answer, in the shape that its documents show, as a server of the common schema."""

from __future__ import annotations

from typing import Any

from plugins.inventory import hetzner
from plugins.plugin_utils._cloud_filters import Filters

HETZNER: dict[str, Any] = {
    "id": 42,
    "name": "web1",
    "status": "off",
    "created": "2026-02-03T04:05:06+00:00",
    "public_net": {
        "ipv4": {"id": 1, "ip": "203.0.113.7", "blocked": False, "dns_ptr": "web1.example"},
        "ipv6": {"id": 2, "ip": "2001:db8:7::/64", "blocked": False, "dns_ptr": []},
        "floating_ips": [],
    },
    "private_net": [{"network": 7, "ip": "10.0.0.2", "alias_ips": [], "mac_address": "86:00:ff:2a:7d:e1"}],
    "server_type": {"id": 1, "name": "cx23", "architecture": "x86"},
    "location": {"id": 1, "name": "fsn1"},
    "image": {"id": 4, "name": "debian-13", "description": "Debian 13", "os_flavor": "debian"},
    "labels": {"env": "prod", "spare": "", "bulwark-role": "web.db"},
}
COMMON = {"name": "web1", "created": "2026-02-03T04:05:06Z", "public_ipv4": "203.0.113.7", "provider_data": None}


def test_hetzner():
    assert hetzner.to_server(HETZNER, {"7": "backend"}, False) == {
        **COMMON,
        "id": "42",
        "region": "fsn1",
        "plan": "cx23",
        "image": "debian-13",
        "status": "stopped",
        "provider_status": "off",
        "public_ipv6": "2001:db8:7::1",
        "private_networks": [{"id": "7", "name": "backend", "address": "10.0.0.2"}],
        "tags": ["env:prod", "spare", "bulwark-role:web.db"],
        "labels": {"env": "prod", "spare": "", "bulwark-role": "web.db"},
    }


def test_hetzner_of_before_july_2026():
    old = {key: value for key, value in HETZNER.items() if key != "location"}
    assert hetzner.to_server({**old, "datacenter": {"location": {"name": "fsn1"}}}, {}, False)["region"] == "fsn1"


def test_a_server_of_which_nothing_but_the_id_is_known():
    """A narrow token leaves fields out, and any of them may be null."""
    bare = hetzner.to_server({"id": 42}, {}, False)
    assert (bare["id"], bare["name"], bare["status"]) == ("42", "42", "other")
    assert bare == hetzner.to_server(dict.fromkeys(HETZNER) | {"id": 42}, {}, False)
    filled = (bare["public_ipv4"], bare["public_ipv6"], bare["private_networks"], bare["tags"], bare["labels"])
    assert filled == (None, None, [], [], {})


def test_the_whole_answer_is_there_on_request():
    assert hetzner.to_server(HETZNER, {}, True)["provider_data"] == HETZNER


def query(**wanted: Any) -> Any:
    plugin = hetzner.InventoryModule()
    plugin.filters = Filters(wanted)
    return plugin.query()


def test_what_hetzner_is_asked_for():
    assert query() == {"sort": "id:desc"}
    asked = query(name="web1", status=["stopped"], labels={"env": ["a", "b"], "x": "y", "z": None, "no t": "1"})
    assert asked["name"] == "web1"
    assert asked["status"] == ["off"]
    assert asked["label_selector"] == "env in (a,b),x=y,z"
    assert query(name=["a", "b"], status="other", labels={"a": "b,c"}) == {"sort": "id:desc"}

"""DigitalOcean: its answer, in the shape that its documents show, as a server of the common schema."""

from __future__ import annotations

from typing import Any

from plugins.inventory import digitalocean
from plugins.plugin_utils._cloud_filters import Filters

DIGITALOCEAN: dict[str, Any] = {
    "id": 42,
    "name": "web1",
    "status": "active",
    "created_at": "2026-02-03T04:05:06Z",
    "networks": {
        "v4": [
            {"ip_address": "10.0.0.2", "netmask": "255.255.0.0", "gateway": "10.0.0.1", "type": "private"},
            {"ip_address": "203.0.113.7", "netmask": "255.255.240.0", "gateway": "203.0.113.1", "type": "public"},
        ],
        "v6": [{"ip_address": "2001:db8:7::1", "netmask": 64, "gateway": "2001:db8::1", "type": "public"}],
    },
    "region": {"name": "Frankfurt 1", "slug": "fra1"},
    "image": {"id": 4, "name": "13 x64", "distribution": "Debian", "slug": "debian-13-x64"},
    "size_slug": "s-1vcpu-1gb",
    "tags": ["env:prod", "spare"],
    "vpc_uuid": "760e09ef",
}
COMMON = {"name": "web1", "created": "2026-02-03T04:05:06Z", "public_ipv4": "203.0.113.7", "provider_data": None}


def test_digitalocean():
    assert digitalocean.to_server(DIGITALOCEAN, {"760e09ef": "default-fra1"}, False) == {
        **COMMON,
        "id": "42",
        "region": "fra1",
        "plan": "s-1vcpu-1gb",
        "image": "debian-13-x64",
        "status": "running",
        "provider_status": "active",
        "public_ipv6": "2001:db8:7::1",
        "private_networks": [{"id": "760e09ef", "name": "default-fra1", "address": "10.0.0.2"}],
        "tags": ["env:prod", "spare"],
        "labels": {"env": "prod"},
    }


def test_a_server_of_which_nothing_but_the_id_is_known():
    """A narrow token leaves fields out, and any of them may be null."""
    bare = digitalocean.to_server({"id": 42}, {}, False)
    assert (bare["id"], bare["name"], bare["status"]) == ("42", "42", "other")
    assert bare == digitalocean.to_server(dict.fromkeys(DIGITALOCEAN) | {"id": 42}, {}, False)
    filled = (bare["public_ipv4"], bare["public_ipv6"], bare["private_networks"], bare["tags"], bare["labels"])
    assert filled == (None, None, [], [], {})


def query(**wanted: Any) -> Any:
    plugin = digitalocean.InventoryModule()
    plugin.filters = Filters(wanted)
    return plugin.query()


def test_what_digitalocean_is_asked_for():
    assert query(labels={"env": "prod"}) == {"tag_name": "env:prod"}
    assert query(tags="web", name="x") == {"name": "x"}
    assert query(tags=["a", "b"]) == query(tags="a*") == {}

"""Each provider's answer, in the shape that its documents show, as a server of the common schema."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.inventory import digitalocean, hetzner, linode, vultr
from plugins.plugin_utils._cloud_filters import Filters
from plugins.plugin_utils._cloud_schema import Network

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
VULTR: dict[str, Any] = {
    "id": "cb676a46",
    "label": "web1",
    "hostname": "web1.example",
    "os": "Debian 13 x64 (trixie)",
    "main_ip": "203.0.113.7",
    "v6_main_ip": "2001:db8:7::5",
    "internal_ip": "",
    "vpcs": [{"id": "v1", "version": "1", "subnet": "10.0.0.2"}],
    "region": "fra",
    "plan": "vc2-1c-1gb",
    "date_created": "2026-02-03T04:05:06+00:00",
    "status": "active",
    "power_status": "running",
    "server_status": "ok",
    "tags": ["env:prod", "spare"],
    "default_password": "hunter2",
}
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


def test_vultr():
    assert vultr.to_server(VULTR, {}, False) == {
        **COMMON,
        "id": "cb676a46",
        "region": "fra",
        "plan": "vc2-1c-1gb",
        "image": "Debian 13 x64 (trixie)",
        "status": "running",
        "provider_status": "active/running",
        "public_ipv6": "2001:db8:7::5",
        "private_networks": [{"id": "v1", "name": None, "address": "10.0.0.2"}],
        "tags": ["env:prod", "spare"],
        "labels": {"env": "prod"},
    }


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
    for module, entry, more in (
        (hetzner, HETZNER, {}),
        (digitalocean, DIGITALOCEAN, {}),
        (vultr, VULTR, {}),
        (linode, LINODE, []),
    ):
        bare = module.to_server({"id": 42}, more, False)
        assert (bare["id"], bare["name"], bare["status"]) == ("42", "42", "other")
        assert bare == module.to_server(dict.fromkeys(entry) | {"id": 42}, more, False)
        filled = (bare["public_ipv4"], bare["public_ipv6"], bare["private_networks"], bare["tags"], bare["labels"])
        assert filled == (None, None, [], [], {})


def test_the_whole_answer_is_there_on_request_but_no_password():
    assert hetzner.to_server(HETZNER, {}, True)["provider_data"] == HETZNER
    data = vultr.to_server(VULTR, {}, True)["provider_data"]
    assert data is not None
    assert set(VULTR) - set(data) == {"default_password"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "running"),
        ({"power_status": "stopped"}, "stopped"),
        ({"server_status": "installingbooting"}, "pending"),
        ({"status": "pending", "power_status": "running", "server_status": "none"}, "pending"),
        ({"status": "suspended"}, "other"),
        ({"power_status": "dreaming"}, "other"),
    ],
)
def test_vultr_has_three_fields_for_one_status(fields, status):
    assert vultr.to_server({**VULTR, **fields}, {}, False)["status"] == status


def test_vultr_names_without_a_label():
    assert vultr.to_server({**VULTR, "label": ""}, {}, False)["name"] == "web1.example"
    assert vultr.to_server({**VULTR, "label": "", "hostname": None}, {}, False)["name"] == "cb676a46"


def query(module: Any, **wanted: Any) -> Any:
    plugin = module.InventoryModule()
    plugin.filters = Filters(wanted)
    return plugin.query()


def test_what_hetzner_is_asked_for():
    assert query(hetzner) == {"sort": "id:desc"}
    asked = query(
        hetzner, name="web1", status=["stopped"], labels={"env": ["a", "b"], "x": "y", "z": None, "no t": "1"}
    )
    assert asked["name"] == "web1"
    assert asked["status"] == ["off"]
    assert asked["label_selector"] == "env in (a,b),x=y,z"
    assert query(hetzner, name=["a", "b"], status="other", labels={"a": "b,c"}) == {"sort": "id:desc"}


def test_what_digitalocean_is_asked_for():
    assert query(digitalocean, labels={"env": "prod"}) == {"tag_name": "env:prod"}
    assert query(digitalocean, tags="web", name="x") == {"name": "x"}
    assert query(digitalocean, tags=["a", "b"]) == query(digitalocean, tags="a*") == {}


def test_what_linode_is_asked_for():
    newest_first = {"+order_by": "id", "+order": "desc"}
    assert query(linode) == newest_first
    assert query(linode, region=["a", "b"], name="x*", labels={"env": "prod"}) == {
        "+and": [{"+or": [{"region": "a"}, {"region": "b"}]}, {"+or": [{"tags": "env:prod"}, {"tags": "env=prod"}]}],
        **newest_first,
    }

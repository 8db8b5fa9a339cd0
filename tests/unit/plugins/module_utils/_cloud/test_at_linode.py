"""Linode: what its answers mean. What is sent is tried on the simulator, see tests/cloud/test_provision.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from plugins.module_utils._cloud.at_linode import Linode, place_price, read_rules, write_rules
from plugins.module_utils._cloud.build import Clock
from plugins.module_utils._cloud.plan import Resource
from tests.unit.plugins.module_utils._cloud.accounts import RULES, Canned


def linode(**more: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "label": "web1",
        "status": "running",
        "region": "de-fra-2",
        "type": "g6-nanode-1",
        "image": "linode/debian12",
        "tags": ["bulwark-managed", "role:web"],
        "ipv4": ["192.168.130.5", "192.0.2.7"],
        "ipv6": "2001:db8::7/128",
        **more,
    }


def look(**answers: Any) -> dict[str, Resource]:
    named = {
        "vpcs": [{"id": 4, "label": "shop", "subnets": [{"id": 5, "label": "shop", "ipv4": "10.0.0.0/16"}]}],
        "vpcs__ips": [{"address": "10.0.0.2", "vpc_id": 4, "subnet_id": 5, "linode_id": 7}],
        "networking__firewalls": [{"id": 3, "label": "bulwark-web", "rules": {}, "tags": ["bulwark-managed"]}],
        "networking__firewalls__3__devices": [{"id": 33, "entity": {"id": 7, "type": "linode"}}],
    }
    return {one.word: one for one in Linode(Canned(**{**named, **answers}), Clock()).look([])}  # type: ignore[arg-type]


def test_a_server_has_names_for_numbers():
    one = look(linode__instances=[linode()])["web1"]
    assert one.ours
    assert (one.spec["image"], one.spec["networks"], one.spec["firewall"]) == ("debian-12", ["shop"], "bulwark-web")
    # The private address comes first.
    assert one.facts["addresses"] == {"A": "192.0.2.7", "AAAA": "2001:db8::7"}
    assert one.facts["inner"] == "192.168.130.5"


def test_a_server_without_addresses():
    one = look(linode__instances=[linode(ipv4=[], ipv6=None, image=None)])["web1"]
    assert one.facts["addresses"] == {"A": None, "AAAA": None}
    assert one.spec["image"] is None


def test_rules_come_back():
    assert read_rules(write_rules(RULES)) == RULES
    assert write_rules([])["inbound_policy"] == "DROP"


def test_some_regions_cost_more():
    kinds = [{"id": "a", "price": {"monthly": 5.0}, "region_prices": [{"id": "br-gru", "monthly": 7.0}]}]
    assert place_price(kinds, "a", "de-fra-2") == Decimal(5)
    assert place_price(kinds, "a", "br-gru") == Decimal(7)
    assert place_price(kinds, "b", "br-gru") is None


def test_ports_with_different_servers_are_a_half_made_load_balancer():
    balancer = {"id": 9, "label": "front", "region": "de-fra-2", "ipv4": "192.0.2.9", "ipv6": None, "tags": []}
    configs = [{"id": n, "port": n, "proxy_protocol": "none"} for n in (80, 443)]
    one = look(
        linode__instances=[linode()],
        nodebalancers=[balancer],
        nodebalancers__9__configs=configs,
        nodebalancers__9__configs__80__nodes=[{"id": 1, "address": "192.168.130.5:80"}],
    )["load_balancer/front"]
    assert one.spec["ports"] == [80, 443]
    assert one.spec["servers"] == []

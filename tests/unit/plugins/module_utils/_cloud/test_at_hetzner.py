"""Hetzner: what its answers mean. What is sent is tried on the simulator, see tests/cloud/test_provision.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from plugins.module_utils._cloud.at_hetzner import Hetzner, read_rules, write_rules
from plugins.module_utils._cloud.build import Clock
from plugins.module_utils._cloud.plan import Resource
from tests.unit.plugins.module_utils._cloud.accounts import RULES, Canned


def server(**more: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "name": "web1",
        "status": "running",
        "labels": {"bulwark-managed": "", "bulwark-role": "web.workers", "env": "prod"},
        "public_net": {"ipv4": {"ip": "192.0.2.7"}, "ipv6": {"ip": "2001:db8:1::/64"}, "firewalls": [{"id": 3}]},
        "private_net": [{"network": 4, "ip": "10.0.0.2"}],
        "location": {"name": "fsn1"},
        "server_type": {"name": "cpx22"},
        "image": {"name": "debian-12"},
        **more,
    }


def look(**answers: Any) -> dict[str, Resource]:
    named = {
        "firewalls": [{"id": 3, "name": "bulwark-web", "rules": [], "labels": {}}],
        "networks": [{"id": 4, "name": "shop", "ip_range": "10.0.0.0/16", "labels": {}}],
    }
    cloud = Hetzner(Canned(**{**named, **answers}), Clock())  # type: ignore[arg-type]
    return {one.word: one for one in cloud.look([])}


def test_a_server_has_names_for_numbers():
    one = look(servers=[server()])["web1"]
    assert one.ours
    assert one.spec == {
        "region": "fsn1",
        "plan": "cpx22",
        "image": "debian-12",
        "roles": ["web", "workers"],
        "labels": {"env": "prod"},
        "networks": ["shop"],
        "firewall": "bulwark-web",
    }
    assert one.facts["addresses"] == {"A": "192.0.2.7", "AAAA": "2001:db8:1::1"}
    assert one.facts["status"] == "running"


def test_a_server_may_lack_almost_everything():
    bare = {"ipv4": None, "ipv6": None, "firewalls": []}
    one = look(servers=[server(public_net=bare, image=None, private_net=[], labels=None, status="unknown")])["web1"]
    assert one.ours is False
    assert one.spec["image"] is None
    assert one.facts["addresses"] == {"A": None, "AAAA": None}
    assert one.facts["status"] == "other"


def test_a_volume_without_a_server():
    volume = {
        "id": 9,
        "name": "media",
        "size": 10,
        "location": {"name": "fsn1"},
        "server": None,
        "linux_device": "/dev/x",
    }
    assert look(volumes=[volume])["volume/media"].spec["server"] == "none"


def test_rules_come_back():
    assert read_rules({"rules": write_rules(RULES)}) == RULES


def test_an_address_is_part_of_the_price():
    both = {"location": "fsn1", "price_monthly": {"net": "5.00", "gross": "5.95"}}
    address = {"location": "fsn1", "price_monthly": {"net": "0.50", "gross": "0.60"}}
    pricing = {
        "currency": "EUR",
        "server_types": [{"name": "cpx22", "prices": [both]}],
        "primary_ips": [{"type": "ipv4", "prices": [address]}, {"type": "ipv6", "prices": []}],
        "volume": {"price_per_gb_month": {"net": "0.044"}},
        "load_balancer_types": [],
    }
    cloud = Hetzner(Canned(pricing={"pricing": pricing}), Clock())  # type: ignore[arg-type]
    one = Resource("server", "hetzner", "web1", {"plan": "cpx22", "region": "fsn1"})
    assert cloud.price(one) == Decimal("5.50")
    assert cloud.currency == "EUR"
    assert cloud.price(Resource("volume", "hetzner", "m", {"size_gb": 100})) == Decimal("4.4")
    assert cloud.price(Resource("server", "hetzner", "web1", {"plan": "old", "region": "fsn1"})) is None
    assert cloud.offered(one) == ""
    elsewhere = Resource("server", "hetzner", "web1", {"plan": "cpx22", "region": "mars"})
    assert "regions are fsn1" in cloud.offered(elsewhere)

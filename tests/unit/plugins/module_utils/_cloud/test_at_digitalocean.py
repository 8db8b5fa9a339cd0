"""DigitalOcean: what its answers mean. What is sent is tried on the simulator, see tests/cloud/test_provision.py."""

from __future__ import annotations

from typing import Any

from plugins.module_utils._cloud.at_digitalocean import DigitalOcean, read_rules, write_rules
from plugins.module_utils._cloud.build import Clock
from plugins.module_utils._cloud.plan import Resource
from tests.unit.plugins.module_utils._cloud.accounts import RULES, Canned

WALL = {"id": "f1", "name": "bulwark-web", "tags": ["bulwark-web"], "inbound_rules": []}


def droplet(**more: Any) -> dict[str, Any]:
    v4 = [{"type": "private", "ip_address": "10.0.0.2"}, {"type": "public", "ip_address": "192.0.2.7"}]
    return {
        "id": 7,
        "name": "web1",
        "status": "active",
        "tags": ["bulwark-managed", "bulwark-web", "role:web", "env:prod"],
        "region": {"slug": "fra1"},
        "size_slug": "s-1vcpu-1gb",
        "image": {"slug": "debian-12-x64"},
        "vpc_uuid": "v1",
        "networks": {"v4": v4, "v6": [{"type": "public", "ip_address": "2001:db8::7"}]},
        **more,
    }


def look(**answers: Any) -> dict[str, Resource]:
    vpcs = [{"id": "v1", "name": "shop", "ip_range": "10.0.0.0/16", "default": False}]
    cloud = DigitalOcean(Canned(**{"vpcs": vpcs, "firewalls": [WALL], **answers}), Clock())  # type: ignore[arg-type]
    return {one.word: one for one in cloud.look([])}


def test_a_server_has_names_for_numbers():
    one = look(droplets=[droplet()])["web1"]
    assert one.ours
    assert (one.spec["image"], one.spec["networks"], one.spec["firewall"]) == ("debian-12", ["shop"], "bulwark-web")
    assert (one.spec["roles"], one.spec["labels"]) == (["web"], {"env": "prod"})
    # The private address comes first.
    assert one.facts["addresses"] == {"A": "192.0.2.7", "AAAA": "2001:db8::7"}


def test_a_server_is_not_there_before_its_address_is():
    one = look(droplets=[droplet(networks={"v4": [], "v6": []})])["web1"]
    assert (one.facts["status"], one.facts["addresses"]) == ("pending", {})


def test_a_narrow_token_leaves_fields_out():
    bare = droplet()
    for name in ("tags", "image", "vpc_uuid"):
        del bare[name]
    one = look(droplets=[bare])["web1"]
    assert one.ours is False
    assert (one.spec["image"], one.spec["networks"]) == (None, [])


def test_rules_come_back():
    assert read_rules({"inbound_rules": write_rules(RULES)}) == RULES

"""Vultr: what its answers mean. What is sent is tried on the simulator, see tests/cloud/test_provision.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from plugins.module_utils._cloud.at_vultr import Vultr
from plugins.module_utils._cloud.build import Clock
from plugins.module_utils._cloud.plan import Resource
from tests.unit.plugins.module_utils._cloud.accounts import Canned


def instance(**more: Any) -> dict[str, Any]:
    return {
        "id": "i1",
        "label": "web1",
        "status": "active",
        "power_status": "running",
        "server_status": "ok",
        "region": "fra",
        "plan": "vc2-1c-1gb",
        "os": "Debian 12 x64 (bookworm)",
        "os_id": 2136,
        "main_ip": "192.0.2.7",
        "v6_main_ip": "2001:db8::7",
        "vpcs": [{"id": "v1", "version": 1, "subnet": "10.0.0.2"}],
        "firewall_group_id": "f1",
        "tags": ["bulwark-managed", "role:web"],
        **more,
    }


def look(**answers: Any) -> dict[str, Resource]:
    rules = [
        {"id": 1, "protocol": "tcp", "port": "30000:32767", "subnet": "10.0.0.0", "subnet_size": 8},
        {"id": 2, "protocol": "icmp", "port": "", "subnet": "::", "subnet_size": 0},
    ]
    named = {
        "vpcs": [{"id": "v1", "description": "shop", "v4_subnet": "10.0.0.0", "v4_subnet_mask": 16}],
        "firewalls": [{"id": "f1", "description": "bulwark-web"}],
        "firewalls__f1__rules": rules,
    }
    return {one.word: one for one in Vultr(Canned(**{**named, **answers}), Clock()).look([])}  # type: ignore[arg-type]


def test_a_server_has_names_for_numbers():
    found = look(instances=[instance()])
    one = found["web1"]
    assert one.ours
    assert (one.spec["image"], one.spec["networks"], one.spec["firewall"]) == ("debian-12", ["shop"], "bulwark-web")
    assert one.facts["addresses"] == {"A": "192.0.2.7", "AAAA": "2001:db8::7"}
    assert found["firewall/bulwark-web"].spec["rules"] == ["icmp - ::/0", "tcp 30000-32767 10.0.0.0/8"]
    assert found["network/shop"].spec["range"] == "10.0.0.0/16"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({}, "running"),
        ({"power_status": "stopped"}, "stopped"),
        ({"status": "pending", "server_status": "none", "main_ip": "0.0.0.0", "v6_main_ip": ""}, "pending"),
        ({"server_status": "installingbooting"}, "pending"),
        ({"status": "suspended"}, "other"),
    ],
)
def test_three_words_of_theirs_are_one_of_ours(words: dict[str, str], status: str):
    one = look(instances=[instance(**words)])["web1"]
    assert one.facts["status"] == status
    assert bool(one.facts["addresses"]) == (words.get("main_ip") != "0.0.0.0")


def test_null_fields_are_none():
    one = look(instances=[instance(tags=None, vpcs=None, v6_main_ip=None, firewall_group_id="", os_id=0)])["web1"]
    assert one.ours is False
    assert (one.spec["networks"], one.spec["firewall"], one.spec["image"]) == ([], "", None)


def test_the_price_of_a_volume_is_known_while_it_is_there():
    block = {"id": "b1", "label": "media", "size_gb": 20, "region": "fra", "attached_to_instance": "", "mount_id": "m"}
    cloud = Vultr(Canned(), Clock())  # type: ignore[arg-type]
    there = look(blocks=[{**block, "cost": 2}])["volume/media"]
    assert cloud.price(there) == Decimal(2)
    assert cloud.price(Resource("volume", "vultr", "media", {**there.spec, "size_gb": 30}, facts=there.facts)) is None

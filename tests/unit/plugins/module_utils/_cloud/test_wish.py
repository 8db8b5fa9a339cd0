"""From declared servers to resources: firewalls, records, keys, first boot, and a sentence for each bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.module_utils._cloud.marks import MARK, from_labels, from_tags, to_labels, to_tags
from plugins.module_utils._cloud.plan import Resource
from plugins.module_utils._cloud.wish import Declared, desired, rule_lines, user_data, wish_problems

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake me@here"
SSH = {"port": "22", "proto": "tcp", "from": ["any"], "name": "ssh", "action": "allow"}
HTTPS = {"port": "443", "proto": "tcp", "from": ["any"], "name": "nginx"}


def server(name: str = "web1", **more: Any) -> dict[str, Any]:
    base = {"name": name, "provider": "hetzner", "region": "fsn1", "plan": "cpx22", "image": "debian-12"}
    return {**base, "roles": ["web"], "firewall_rules": [SSH], **more}


def declared(*servers: dict[str, Any], **more: Any) -> Declared:
    users = more.pop("admin_users", [{"name": "deploy", "keys": [KEY]}])
    networks = more.pop("networks", [{"name": "shop", "range": "10.20.0.0/16"}])
    return Declared(
        servers=servers, networks=networks, load_balancers=more.pop("load_balancers", []), admin_users=users
    )


def of_kind(data: Declared, kind: str) -> dict[str, Resource]:
    return {one.name: one for one in desired(data) if one.kind == kind}


def test_a_server_brings_its_key_firewall_network_and_volumes():
    data = declared(server(networks=["shop"], volumes=[{"name": "media", "size_gb": "50"}], firewall_rules=[SSH]))
    assert sorted(one.kind for one in desired(data)) == ["firewall", "key", "network", "server", "volume"]
    assert of_kind(data, "volume")["media"].spec == {"size_gb": 50, "region": "fsn1", "server": "web1"}
    assert of_kind(data, "network")["shop"].spec == {"range": "10.20.0.0/16"}
    assert of_kind(data, "server")["web1"].spec["firewall"] == "bulwark-web"


def test_servers_with_the_same_rules_share_a_firewall():
    shared = declared(server("web1", firewall_rules=[SSH]), server("web2", firewall_rules=[SSH]))
    assert list(of_kind(shared, "firewall")) == ["bulwark-web"]
    own = declared(server("web1", firewall_rules=[SSH]), server("web2", firewall_rules=[SSH, HTTPS]))
    assert list(of_kind(own, "firewall")) == ["bulwark-web1", "bulwark-web2"]


def test_the_name_of_a_firewall_is_not_too_long():
    roles = ["celery_workers", "monitoring", "postgres", "redis"]
    name = next(iter(of_kind(declared(server(roles=roles)), "firewall")))
    assert len(name) == 32
    assert name.startswith("bulwark-celery-workers-mo")


def test_rules_are_those_of_the_host():
    lines = rule_lines(
        [
            SSH,
            {"port": "30000:32767", "from": ["10.0.0.5"], "name": "nodes"},
            {"port": 5432, "from": [], "name": "postgres"},
            {"port": 51820, "proto": "udp", "from": ["2001:db8::/32"], "name": "vpn"},
        ]
    )
    assert lines == [
        "icmp - 0.0.0.0/0",
        "icmp - ::/0",
        "tcp 22 0.0.0.0/0",
        "tcp 22 ::/0",
        "tcp 30000-32767 10.0.0.5/32",
        "udp 51820 2001:db8::/32",
    ]


def test_records_point_at_servers_and_load_balancers():
    balancer = {"name": "front", "provider": "hetzner", "region": "fsn1", "plan": "lb11", "roles": ["web"]}
    balancer |= {"ports": [80, 443], "dns": ["shop.example.com"]}
    data = declared(server("web1", dns=["a.example.com"]), server("web2"), load_balancers=[balancer])
    records = of_kind(data, "record")
    assert sorted(records) == [
        "a.example.com A",
        "a.example.com AAAA",
        "shop.example.com A",
        "shop.example.com AAAA",
    ]
    assert records["shop.example.com A"].facts["targets"] == [("load_balancer", "front")]
    assert of_kind(data, "load_balancer")["front"].spec["servers"] == ["web1", "web2"]


def test_the_first_boot_makes_the_admin_users():
    text = user_data([{"name": "deploy", "keys": [f" {KEY}\n"]}, {"name": "gone", "state": "absent", "keys": [KEY]}])
    assert text.startswith("#cloud-config\n")
    data = json.loads(text.partition("\n")[2])
    assert [user["name"] for user in data["users"]] == ["deploy"]
    assert data["users"][0]["ssh_authorized_keys"] == [KEY]
    assert data["write_files"][0]["content"] == "deploy ALL=(ALL:ALL) NOPASSWD: ALL\n"
    assert data["ssh_pwauth"] is False


def test_the_first_boot_has_no_password():
    text = user_data([{"name": "deploy", "keys": [KEY], "sudo": "password", "password_hash": "$6$hash"}])
    assert "hash" not in text
    assert "users" not in text


def test_marks_come_back_as_they_were_written():
    roles, labels = ["web", "workers"], {"env": "prod", "blue": ""}
    assert from_labels(to_labels(roles, labels)) == (roles, labels)
    assert from_tags(to_tags(roles, labels)) == (roles, labels)
    assert MARK in to_tags([], {})
    assert MARK in to_labels([], {})


def test_good_input_has_no_problems():
    assert not wish_problems(declared(server(networks=["shop"], labels={"env": "prod"}, dns=["www.example.com"])))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (declared(server(), admin_users=[{"name": "deploy"}]), "nobody with a key"),
        (declared(server(firewall_rules=[])), "let nobody in"),
        (declared(server("db", provider="linode")), "linode takes no name like 'db'"),
        (declared(server("Web_1")), "'Web_1' cannot be a name"),
        (declared(server(), server()), "web1 is there twice"),
        (declared(server(roles=["my-role"])), "cannot be a group"),
        (declared(server(labels={"role": "x"})), "label 'role: x'"),
        (declared(server(labels={"env": "{{ evil }}"})), "would not be taken"),
        (declared(server(networks=["other"])), "bulwark_networks does not have"),
        (declared(server(), networks=[{"name": "shop", "range": "10.20.0.1/16"}]), "is not an IPv4 network"),
        (declared(server(), networks=[{"name": "shop", "range": "8.8.0.0/16"}]), "use a private network"),
        (
            declared(networks=[{"name": "a", "range": "10.0.0.0/16"}, {"name": "b", "range": "10.0.8.0/24"}]),
            "a and b overlap",
        ),
        (
            declared(
                server("a", provider="vultr", region="ams", networks=["shop"]),
                server("b", provider="vultr", region="fra", networks=["shop"]),
            ),
            "would span ams, fra",
        ),
        (
            declared(
                server("a", volumes=[{"name": "m", "size_gb": 10}]), server("b", volumes=[{"name": "m", "size_gb": 10}])
            ),
            "m at hetzner is there twice",
        ),
        (declared(server(dns=["www"])), "is not a full domain name"),
        (
            declared(server("a", dns=["a.example.com"]), server("b", provider="linode", dns=["a.example.com"])),
            "is wanted at hetzner and linode",
        ),
        (
            declared(
                server(),
                load_balancers=[
                    {
                        "name": "lb",
                        "provider": "hetzner",
                        "region": "fsn1",
                        "plan": "lb11",
                        "roles": ["db"],
                        "ports": [],
                    }
                ],
            ),
            "would have nothing behind it",
        ),
    ],
)
def test_bad_input_is_said(data: Declared, words: str):
    assert words in " ".join(wish_problems(data))

"""What roles publish, and ports that two of them want."""

from __future__ import annotations

from plugins.plugin_utils.published import mentioned_groups, port_conflicts, published

REDIS = {"port": 6379, "name": "redis"}
NGINX = {"port": 443, "name": "nginx"}


def test_groups_pick():
    lists = {"all": [{"port": 9100, "name": "node"}], "redis": [REDIS], "web": [NGINX], "workers": []}
    assert published(lists, ["web", "prod"]) == [{"port": 9100, "name": "node"}, NGINX]
    assert published({}, ["web"]) == []


def test_two_services_on_one_port():
    problems = port_conflicts([REDIS, NGINX, {"port": "6379", "name": "valkey"}])
    assert problems == ["port 6379/tcp is wanted by both redis and valkey; give one of them another port."]


def test_what_is_no_conflict():
    assert port_conflicts([]) == []
    assert port_conflicts([REDIS, REDIS]) == []
    assert port_conflicts([NGINX, {"port": 443, "proto": "udp", "name": "http3"}]) == []


def test_groups_that_rules_mention():
    groups = {"web": ["web1", "192.0.2.9"], "office": ["vpn"], "unused": ["web1"]}
    hostvars = {
        "web1": {"ansible_host": "10.0.0.1", "bulwark_addresses": ["10.0.0.1", "2001:db8::1"]},
        "192.0.2.9": {},
        "vpn": {"ansible_host": "vpn.example.org"},
    }
    rules = [{"from": ["any", "group:web"]}, {"to": ["group:office", "group:none"]}, {"from": None}]
    assert mentioned_groups(rules, groups, hostvars) == {
        "web": ["10.0.0.1", "2001:db8::1", "192.0.2.9"],
        "office": ["host:vpn"],
    }
    assert mentioned_groups([{"from": ["any"]}], groups, {}) == {}

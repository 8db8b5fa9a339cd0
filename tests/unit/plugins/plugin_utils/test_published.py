"""What roles publish, and ports that two of them want."""

from __future__ import annotations

from plugins.plugin_utils.published import port_conflicts, published

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

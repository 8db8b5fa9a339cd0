"""Vultr: its answer, in the shape that its documents show, as a server of the common schema."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.inventory import vultr

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
COMMON = {"name": "web1", "created": "2026-02-03T04:05:06Z", "public_ipv4": "203.0.113.7", "provider_data": None}


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


def test_a_server_of_which_nothing_but_the_id_is_known():
    """A narrow token leaves fields out, and any of them may be null."""
    bare = vultr.to_server({"id": 42}, {}, False)
    assert (bare["id"], bare["name"], bare["status"]) == ("42", "42", "other")
    assert bare == vultr.to_server(dict.fromkeys(VULTR) | {"id": 42}, {}, False)
    filled = (bare["public_ipv4"], bare["public_ipv6"], bare["private_networks"], bare["tags"], bare["labels"])
    assert filled == (None, None, [], [], {})


def test_the_whole_answer_is_there_on_request_but_no_password():
    data = vultr.to_server(VULTR, {}, True)["provider_data"]
    assert data is not None
    assert set(VULTR) - set(data) == {"default_password"}

"""A server as all clouds have it: addresses, times, tags and labels, groups, and how it is reached."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.plugin_utils import _cloud_schema as schema
from plugins.plugin_utils._cloud_schema import Connecting, Network, Server


def server(**more: Any) -> Server:
    one: dict[str, Any] = {
        "id": "1",
        "name": "web1",
        "region": "fra",
        "plan": "small",
        "image": "debian-13",
        "status": "running",
        "provider_status": "active",
        "public_ipv4": "198.51.100.1",
        "public_ipv6": "2001:db8::1",
        "private_networks": [],
        "tags": [],
        "labels": {},
        "created": "2026-01-01T00:00:00Z",
        "provider_data": None,
        **more,
    }
    return Server(**one)  # type: ignore[typeddict-item]


def tagged(*tags: str) -> Server:
    return server(tags=list(tags), labels=schema.labels_of(tags))


def labelled(**labels: str) -> Server:
    return server(labels=labels, tags=schema.tags_of(labels))


def all_groups(one: Server, *families: str) -> set[str]:
    return schema.groups(
        "vultr", one, families or schema.FAMILIES, lambda name: name.replace("-", "_").replace(":", "_")
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2001:db8:1::/64", "2001:db8:1::1"),
        ("2001:db8::8:1/128", "2001:db8::8:1"),
        ("2001:db8::8:1", "2001:db8::8:1"),
        ("2001:db8:0:0:8::/80", "2001:db8:0:0:8::1"),
        ("2001:db8:1:2:3:4:0:0/112", "2001:db8:1:2:3:4:0:1"),
        ("2001:db8::5/64", "2001:db8::5"),
        ("", None),
        (None, None),
        ("::", None),
    ],
)
def test_an_address_of_the_host_also_where_the_api_gives_a_network(written, meant):
    assert schema.host_ipv6(written) == meant


def test_a_missing_address_is_none_however_it_is_written():
    assert [schema.ipv4(one) for one in (None, "", "0.0.0.0", "0.0.0.0/0")] == [None] * 4
    assert schema.ipv4("10.1.2.3/24") == "10.1.2.3"
    assert [schema.public_ipv4(one) for one in ("10.1.2.3", "172.20.1.1", "192.168.130.1")] == [None] * 3
    assert schema.public_ipv4("172.32.1.1") == "172.32.1.1"


@pytest.mark.parametrize(
    "written", ["2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00", "2026-01-01T02:00:00+02:00"]
)
def test_one_form_of_time(written):
    assert schema.utc(written) == "2026-01-01T00:00:00Z"


def test_a_time_that_is_none_stays():
    assert (schema.utc(None), schema.utc(""), schema.utc("soon")) == (None, None, "soon")


def test_tags_and_labels_are_the_same_everywhere():
    labels = {"env": "prod", "role": "web", "spare": ""}
    assert schema.tags_of(labels) == ["env:prod", "role:web", "spare"]
    assert schema.labels_of(["env:prod", "role=web", "spare", "a:b:c", ":x", "empty:"]) == {
        "env": "prod",
        "role": "web",
        "a": "b:c",
        "empty": "",
    }
    groups = all_groups(labelled(**labels))
    assert groups == all_groups(tagged("env:prod", "role:web", "spare"))
    assert groups == {
        *("provider_vultr", "region_fra", "plan_small", "status_running"),
        *("tag_env_prod", "tag_role_web", "tag_spare", "label_env_prod", "label_role_web", "web"),
    }


@pytest.mark.parametrize(
    "one",
    [
        tagged("role:web", "role:db"),
        tagged("role=web", "bulwark-role=db"),
        tagged("bulwark_role:web,db"),
        labelled(role="web.db"),
        labelled(**{"role": "web", "bulwark-role": "db"}),
        labelled(Role="web.db"),
    ],
)
def test_several_roles(one):
    assert all_groups(one, "role") == {"web", "db"}


def test_a_role_cannot_be_everything_or_nothing():
    assert all_groups(tagged("role:", "role:all", "role:ungrouped", "role: ", "troll:web"), "role") == set()


def test_only_the_families_that_are_wanted():
    one = tagged("role:web")
    assert all_groups(one, "region", "role") == {"region_fra", "web"}
    assert all_groups(server(region=None, plan=None), "region", "plan") == set()


@given(st.lists(st.text(max_size=12), max_size=5))
def test_no_tag_breaks_anything(tags):
    one = tagged(*tags)
    assert all(isinstance(name, str) and name for name in all_groups(one))
    assert set(one["labels"].items()) <= set(schema.pairs(one))


NETWORKS = [
    Network(id="7", name="backend", address="10.0.0.1"),
    Network(id="8", name=None, address="10.1.0.1"),
]


@pytest.mark.parametrize(
    ("wanted", "address"),
    [
        (["public_ipv4"], "198.51.100.1"),
        (["public_ipv6", "public_ipv4"], "2001:db8::1"),
        (["private_ipv4"], "10.0.0.1"),
        (["private_ipv4:8"], "10.1.0.1"),
        (["private_ipv4:backend"], "10.0.0.1"),
        (["private_ipv4:other", "name"], "web1"),
        (["private_ipv4:other"], None),
    ],
)
def test_how_a_host_is_reached(wanted, address):
    one = server(private_networks=NETWORKS)
    assert Connecting(wanted).address(one) == address


def test_the_private_address_is_of_the_network_that_is_named():
    one = server(private_networks=NETWORKS)
    assert Connecting(["public_ipv4"]).private_ipv4(one) == "10.0.0.1"
    assert Connecting(["public_ipv4", "private_ipv4:8"]).private_ipv4(one) == "10.1.0.1"
    assert Connecting(["private_ipv4:other"]).private_ipv4(one) is None


@pytest.mark.parametrize("wanted", [[], ["ipv4"], ["public_ipv4:backend"], [None]])
def test_an_address_that_does_not_exist_is_refused(wanted):
    with pytest.raises(ValueError, match="connect_with"):
        Connecting(wanted)


def test_the_oldest_first_in_every_order():
    servers = [server(id="10"), server(id="9"), server(id="1", created="2025-01-01T00:00:00Z"), server(id="x")]
    random.shuffle(servers)
    assert [one["id"] for one in sorted(servers, key=schema.age)] == ["1", "x", "9", "10"]

"""What an inventory says of the servers, the same for all four providers."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cloud.conftest import FULL, ROOT, Cloud
from tests.cloud.fleet import NETWORK, Machine, fleet, machine, plain
from tests.cloud.simulator import PROVIDERS, Simulator
from tests.cloud.situations import awkward, expected_ids
from tests.stores.stores import CA, make_certificate

# What the machines of a fleet have by their place: region, plan and image.
REGIONS = {
    "hetzner": ["fsn1", "nbg1", "hel1", "ash"],
    "digitalocean": ["fra1", "ams3", "nyc3", "lon1"],
    "vultr": ["fra", "ams", "ewr", "sgp"],
    "linode": ["de-fra-2", "nl-ams", "us-east"],
}
PLANS = {
    "hetzner": ["cpx22", "cpx32", "cax11", "ccx13"],
    "digitalocean": ["s-1vcpu-1gb", "s-2vcpu-4gb", "s-4vcpu-8gb"],
    "vultr": ["vc2-1c-1gb", "vc2-2c-4gb", "vhf-4c-16gb"],
    "linode": ["g6-nanode-1", "g6-standard-1", "g6-standard-4"],
}
IMAGES = {
    "hetzner": ["debian-13", "debian-12", "ubuntu-24.04"],
    "digitalocean": ["debian-13-x64", "debian-12-x64"],
    "vultr": ["Debian 13 x64 (trixie)", "Debian 12 x64 (bookworm)", "Ubuntu 24.04 LTS x64"],
    "linode": ["linode/debian13", "linode/debian12", "linode/ubuntu24.04"],
}
WORDS = {
    "hetzner": {"running": "running", "stopped": "off", "pending": "initializing"},
    "digitalocean": {"running": "active", "stopped": "off", "pending": "new"},
    "linode": {"running": "running", "stopped": "offline", "pending": "provisioning"},
}


def safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def expected(provider: str, one: Machine) -> dict[str, Any]:
    """The variables of a machine, as the table of docs/inventory.md has them."""
    pending = provider == "vultr" and one.status == "pending"
    return {
        "bulwark_provider": provider,
        "bulwark_name": one.name,
        "bulwark_region": REGIONS[provider][one.place % len(REGIONS[provider])],
        "bulwark_plan": PLANS[provider][one.place % len(PLANS[provider])],
        "bulwark_image": IMAGES[provider][one.place % len(IMAGES[provider])],
        "bulwark_status": one.status,
        "bulwark_public_ipv4": None if pending else one.public_ipv4,
        "bulwark_public_ipv6": one.public_ipv6,
        "bulwark_private_ipv4": one.private_ipv4,
        "bulwark_labels": {**one.labels, **(dict.fromkeys(one.tags, "") if provider == "hetzner" else {})},
        "bulwark_tags": sorted(one.words()),
    }


def test_the_schema(cloud: Cloud, provider: str) -> None:
    machines = fleet(24)
    cloud.simulator.fill(provider, machines)
    cloud.source(provider)
    hosts = cloud.listed().hosts
    assert len(hosts) == 24
    for one in machines:
        found = hosts[one.name]
        wanted = expected(provider, one)
        assert {**{name: found[name] for name in wanted}, "bulwark_tags": sorted(found["bulwark_tags"])} == wanted
        assert datetime.fromisoformat(found["bulwark_created"]) == one.created
        if provider in WORDS:
            assert found["bulwark_provider_status"] == WORDS[provider][one.status]
        networks = found["bulwark_private_networks"]
        assert [net["address"] for net in networks] == ([one.private_ipv4] if one.private_ipv4 else [])
        assert all(net["id"] for net in networks)
        if one.public_ipv4 and wanted["bulwark_public_ipv4"]:
            assert found["ansible_host"] == one.public_ipv4
        assert not {"name", "tags", "region", "id", "status"} & set(found)


def test_the_groups(cloud: Cloud, provider: str) -> None:
    machines = fleet(12)
    cloud.simulator.fill(provider, machines)
    cloud.source(provider)
    groups = cloud.listed().groups
    wanted: dict[str, set[str]] = {}
    for one in machines:
        facts = expected(provider, one)
        names = {
            f"provider_{provider}",
            safe(f"region_{facts['bulwark_region']}"),
            safe(f"plan_{facts['bulwark_plan']}"),
            f"status_{one.status}",
            "tag_bulwark",
            *(f"label_{key}_{value}" for key, value in one.labels.items()),
            one.labels["role"],
        }
        for name in names:
            wanted.setdefault(name, set()).add(one.name)
    assert {name: groups.get(name) for name in wanted} == wanted


def test_roles_are_groups(cloud: Cloud, provider: str) -> None:
    """So that site.yml works with no further file; the graph shows it."""
    machines = [replace(machine(1), labels={"role": "web"}), replace(machine(2), labels={"bulwark-role": "db"})]
    cloud.simulator.fill(provider, machines)
    cloud.source(provider)
    graph = cloud.read("--graph")
    assert graph.code == 0, graph.said
    assert re.search(r"@web:\n  \|  \|--db-00001\n", graph.out), graph.out
    assert re.search(r"@db:\n  \|  \|--worker-00002\n", graph.out), graph.out


def test_awkward_servers(cloud: Cloud, provider: str) -> None:
    machines = awkward(provider)
    cloud.simulator.fill(provider, machines)
    cloud.source(provider)
    read = cloud.listed()
    assert read.ids == expected_ids(cloud.simulator, provider)
    hosts = {host["bulwark_id"]: (name, host) for name, host in read.hosts.items()}
    assert len(hosts) == len(machines)
    by_name = {host["bulwark_name"]: host for _, host in hosts.values()}
    assert by_name["six-only"]["ansible_host"] == machines[0].public_ipv6
    assert by_name["private-only"]["bulwark_private_ipv4"] == "10.9.9.9"
    assert "ansible_host" not in by_name["no-address"]
    assert by_name["no-address"]["bulwark_public_ipv4"] is None
    assert "no-address" in read.complaint, read.err
    assert by_name["new-word"]["bulwark_status"] == "other"
    assert by_name["new-word"]["bulwark_provider_status"].startswith("hibernating")
    assert "in-two-roles" in read.groups["web"]
    twins = [name for name, host in hosts.values() if host["bulwark_name"] == "a-twin"]
    assert len(twins) == {"digitalocean": 2, "vultr": 3}.get(provider, 0)
    assert not twins or "a-twin" in read.complaint
    if provider == "linode":
        assert by_name["two-addresses"]["ansible_host"] == "198.51.100.7"
    # What looks like a template is text.
    assert "1337" not in read.said
    assert "{{ 7 * 191 }} {% raw %}" in read.out
    assert read.groups.get("all", set()) <= {"never"}


@pytest.mark.parametrize("way", ["null", "missing"])
def test_fields_that_are_not_there(cloud: Cloud, provider: str, way: str) -> None:
    """The documents grow and shrink: the id and the name are all that a host needs."""

    def _strip(thing: dict[str, Any]) -> None:
        for name in set(thing) - {"id", "name", "label", "status", "size_slug"}:
            if way == "null":
                thing[name] = None
            else:
                del thing[name]

    cloud.simulator.fill(provider, [plain(1, "bare", change=_strip, private_ipv4=None), plain(2, "whole")])
    cloud.source(provider)
    hosts = cloud.listed().hosts
    assert set(hosts) == {"bare", "whole"}
    assert "ansible_host" not in hosts["bare"]
    assert set(hosts["bare"]) == set(hosts["whole"]) - {"ansible_host"}


def test_a_token_that_sees_little(cloud: Cloud) -> None:
    """A DigitalOcean token without the scopes for tags, images, VPCs and volumes."""
    cloud.simulator.fill("digitalocean", fleet(3))
    account = cloud.simulator.account("digitalocean")
    account.unseen, account.scopes = {"tags", "image", "vpc_uuid", "volume_ids"}, ["/droplets"]
    cloud.source("digitalocean")
    read = cloud.listed()
    assert len(read.hosts) == 3
    assert read.hosts["db-00001"]["bulwark_private_ipv4"] == machine(1).private_ipv4


def test_where_vultr_said_it_before(cloud: Cloud) -> None:
    """The fields of the documents of 2023: one private address, networks of IPv6, one tag."""

    def _old(thing: dict[str, Any]) -> None:
        six = {"network": thing["v6_network"], "main_ip": thing.pop("v6_main_ip"), "network_size": 64}
        thing.update(v6_networks=[six], tag="role:web")
        for name in ("vpcs", "tags", "vpc_only", "user_scheme"):
            del thing[name]

    cloud.simulator.fill("vultr", [plain(1, "old", change=_old)])
    cloud.source("vultr")
    read = cloud.listed()
    old = read.hosts["old"]
    assert (old["bulwark_public_ipv6"], old["bulwark_private_ipv4"]) == (
        machine(1).public_ipv6,
        machine(1).private_ipv4,
    )
    assert read.groups["web"] == {"old"}


def test_linode_addresses_that_are_ranges(cloud: Cloud) -> None:
    cloud.simulator.fill("linode", [plain(1, "one")])
    account = cloud.simulator.account("linode")
    entry = account.all("vpc_ips")[0]
    account.put("vpc_ips", {**entry, "address": None, "address_range": "10.9.0.0/28"}, key=(1, "range"))
    cloud.source("linode", connect_with="private_ipv4")
    read = cloud.listed()
    assert [one["address"] for one in read.hosts["one"]["bulwark_private_networks"]] == [machine(1).private_ipv4]


def test_braces_in_labels_stay_text_in_a_play(cloud: Cloud, provider: str) -> None:
    if provider in ("hetzner", "digitalocean"):
        pytest.skip("its names, labels and tags may not have braces")
    cloud.simulator.fill(provider, awkward(provider))
    cloud.source(provider)
    tasks = [
        {"ansible.builtin.debug": {"var": "bulwark_tags"}},
        {"ansible.builtin.debug": {"msg": "{{ bulwark_tags | join(' ') }}"}},
    ]
    read = cloud.play("odd-tags", *tasks)
    assert read.out.count("{{ 7 * 191 }} {% raw %}") == 2
    assert "1337" not in read.said


def test_a_play_runs_where_the_labels_say(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(6))
    cloud.source(provider)
    done = cloud.play(
        "web:&status_running", {"ansible.builtin.debug": {"msg": "{{ bulwark_region }} {{ bulwark_id }}"}}
    )
    recap = done.out.partition("PLAY RECAP")[2]
    assert sorted(line.split()[0] for line in recap.splitlines() if "ok=1" in line) == ["web-00006"]


def test_a_play_does_not_go_on_without_its_hosts(cloud: Cloud, provider: str) -> None:
    """A bad token, and beside it a host that is there: nothing is done, and the exit status says so."""
    cloud.simulator.fill(provider, fleet(2))
    cloud.source(provider)
    cloud.other("static.yml", {"all": {"hosts": {"printer": {}}}})
    cloud.simulator.apis[provider].accounts.clear()
    playbook = cloud.home / "play.yml"
    playbook.parent.mkdir()
    playbook.write_text("[{hosts: all, gather_facts: false, tasks: [{debug: {msg: I ran}}]}]", encoding="utf-8")
    read = cloud.run("ansible-playbook", "-i", cloud.sources[0], "-i", cloud.sources[1], str(playbook))
    assert read.code
    assert "I ran" not in read.out


# -- connect_with ------------------------------------------------------------------------------------------------------


def test_connect_with(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, [
        plain(1, "both"),
        plain(2, "six", public_ipv4=None, private_ipv4=None),
        plain(3, "inner", public_ipv4=None, public_ipv6=None, private_ipv4="10.9.9.3"),
        plain(4, "none", public_ipv4=None, public_ipv6=None, private_ipv4=None),
    ])  # fmt: skip
    wanted = {
        ("public_ipv4",): {"both": machine(1).public_ipv4},
        ("private_ipv4", "public_ipv6"): {
            "both": machine(1).private_ipv4, "six": machine(2).public_ipv6, "inner": "10.9.9.3",
        },
        ("public_ipv6", "name"): {
            "both": machine(1).public_ipv6, "six": machine(2).public_ipv6, "inner": "inner", "none": "none",
        },
        ("private_ipv4:elsewhere", "public_ipv4"): {"both": machine(1).public_ipv4},
    }  # fmt: skip
    for number, choice in enumerate(wanted):
        # The later sources overwrite ansible_host, but not what was composed of it.
        cloud.source(
            provider, file=f"{number}.{provider}.yml", connect_with=list(choice), without_address="leave_out",
            compose={f"address_{number}": "ansible_host"},
        )  # fmt: skip
    read = cloud.listed()
    for number, addresses in enumerate(wanted.values()):
        name = f"address_{number}"
        assert {host: known[name] for host, known in read.hosts.items() if name in known} == addresses
        # Whoever is left out is named.
        told = " ".join(re.findall(rf"{number}\.{provider}\.yml: [^;]+;", read.complaint))
        assert all(host in told for host in {"both", "six", "inner", "none"} - set(addresses)), read.err


def test_connect_in_a_named_network(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, [plain(1, "one"), plain(3, "three")])
    region = {"hetzner": "", "digitalocean": "-ams3", "vultr": "-ams", "linode": "-nl-ams"}[provider]
    cloud.source(provider, connect_with=f"private_ipv4:{NETWORK}{region}", without_address="leave_out")
    wanted = {"one": machine(1).private_ipv4}
    if provider == "hetzner":
        # A network there is not of one region.
        wanted["three"] = machine(3).private_ipv4
    assert {name: host["ansible_host"] for name, host in cloud.listed().hosts.items()} == wanted


def test_a_server_without_address_can_be_an_error(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, [plain(1, "six", public_ipv4=None)])
    cloud.source(provider, connect_with="public_ipv4", without_address="fail")
    read = cloud.read()
    assert read.code
    assert "six" in read.complaint


# -- which servers -----------------------------------------------------------------------------------------------------


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"name": "db-*"}, lambda one: one.name.startswith("db-")),
    ({"name": ["db-00001", "web-00003"]}, lambda one: one.name in ("db-00001", "web-00003")),
    ({"name": "db-00001"}, lambda one: one.name == "db-00001"),
    ({"status": "running"}, lambda one: one.status == "running"),
    ({"status": ["stopped", "pending"]}, lambda one: one.status != "running"),
    ({"labels": {"env": "prod"}}, lambda one: one.labels["env"] == "prod"),
    ({"labels": {"env": ["prod", "test"], "role": "web"}}, lambda one: one.labels["env"] == "prod"),
    ({"labels": {"env": "prod"}, "status": "stopped"}, lambda one: one.number in (3, 9, 15, 21)),
    ({"tags": "bulwark"}, lambda one: True),
    ({"tags": "env:test"}, lambda one: one.labels["env"] == "test"),
    ({"tags": "nobody"}, lambda one: False),
    ({"name": "nobody"}, lambda one: False),
]


def test_filters_have_the_same_words(cloud: Cloud, provider: str, dice: random.Random) -> None:
    machines = fleet(24)
    cloud.simulator.fill(provider, machines)
    region = REGIONS[provider][1]
    by_region = ({"region": [region]}, lambda one: REGIONS[provider][one.place % len(REGIONS[provider])] == region)
    by_plan = (
        {"plan": PLANS[provider][0]}, lambda one: one.place % len(PLANS[provider]) == 0
    )  # fmt: skip
    chosen = [by_region, by_plan, *(FILTERS if FULL else dice.sample(FILTERS, 6))]
    for number, (filters, _fits) in enumerate(chosen):
        # A server that several sources list is one host, in the group of each.
        words = {"filters": filters, "group_by": [], "groups": {f"of_{number}": "true"}}
        cloud.source(provider, file=f"{number}.{provider}.yml", **words)
    groups = cloud.listed().groups
    for number, (filters, fits) in enumerate(chosen):
        assert groups.get(f"of_{number}", set()) == {one.name for one in machines if fits(one)}, filters


def test_include_and_exclude(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(12))
    include = [{"labels": {"env": "prod"}}, "bulwark_name == 'db-00001'"]
    cloud.source(provider, include=include, exclude=["bulwark_status == 'stopped'", {"name": "*-00012"}])
    assert set(cloud.listed().hosts) == {"web-00006", "db-00001"}


# -- accounts, names and other sources ---------------------------------------------------------------------------------


def test_two_accounts_and_a_static_file_in_one_directory(cloud: Cloud, provider: str) -> None:
    """The same name in two accounts is two hosts; a static file may add to a server."""
    cloud.simulator.fill(provider, [plain(1, "web1"), plain(2, "db1")])
    cloud.simulator.add_account(provider, "other", [plain(3, "web1"), plain(4, "db2")])
    cloud.source(provider, "main", f"a.{provider}.yml")
    cloud.source(provider, "other", f"b.{provider}.yml")
    cloud.other("static.yml", {
        "all": {"hosts": {"printer": {"ansible_host": "192.0.2.9"}, "db1": {"extra": 1}}, "vars": {"everywhere": True}},
    })  # fmt: skip
    files, cloud.sources = cloud.sources, [str(cloud.folder)]
    read = cloud.listed()
    cloud.sources = files
    assert len(read.hosts) == 5
    assert read.ids == sorted(
        str(key)
        for name in ("main", "other")
        for key in cloud.simulator.account(provider, name).stock[cloud.simulator.apis[provider].server_kinds[0]]
    )
    assert read.hosts["db1"]["extra"] == 1
    assert read.hosts["db1"]["bulwark_name"] == "db1"
    assert "web1" in read.complaint, "nobody was told that two servers have one name"


def test_one_bad_account_is_an_error(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(2))
    cloud.source(provider)
    cloud.simulator.add_account(provider, "other", fleet(2, first=5))
    cloud.source(provider, "other", total_timeout_seconds=3)
    cloud.simulator.account(provider, "other").token = "changed"
    cloud.simulator.apis[provider].accounts.popitem()
    read = cloud.read()
    assert read.code
    assert f"other.{provider}.yml" in read.complaint
    assert f"main.{provider}.yml" not in read.complaint


def test_all_four_at_once(cloud: Cloud) -> None:
    for provider in PROVIDERS:
        cloud.simulator.fill(provider, [replace(machine(3), name=f"{provider}-web")])
        cloud.source(provider)
    read = cloud.listed()
    assert read.groups["web"] == {f"{provider}-web" for provider in PROVIDERS}
    keys = [set(host) for host in read.hosts.values()]
    assert keys[0] == keys[1] == keys[2] == keys[3]


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_where_a_token_comes_from(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(1))
    token = cloud.simulator.token(provider)
    variable = {
        "hetzner": "HCLOUD_TOKEN",
        "digitalocean": "DIGITALOCEAN_TOKEN",
        "vultr": "VULTR_API_KEY",
        "linode": "LINODE_API_TOKEN",
    }[provider]
    cloud.source(provider, api_token=None)
    read = cloud.read()
    assert read.code
    assert variable in read.complaint
    cloud.env = {variable: token}
    assert len(cloud.listed("-vvvv").hosts) == 1
    cloud.env = {"SOME_TOKEN": token}
    file = cloud.home / "token"
    file.write_text(token + "\n", encoding="utf-8")
    cloud.sources.clear()
    cloud.source(provider, file=f"a.{provider}.yml", api_token="{{ lookup('env', 'SOME_TOKEN') }}")
    cloud.source(provider, file=f"b.{provider}.yml", api_token=None, api_token_file=str(file))
    read = cloud.listed("-vvvv")
    assert len(read.hosts) == 1
    assert token not in read.said
    assert len({one.account for one in cloud.simulator.log}) == 1
    file.unlink()


def test_https_is_checked(tmp_path: Path, provider: str) -> None:
    """A certificate that nobody vouches for gets no token; with its CA all is well."""
    make_certificate(tmp_path, ["IP:127.0.0.1"])
    with Simulator(hosts=3, certificate=tmp_path) as simulator:
        cloud = Cloud(tmp_path, simulator)
        cloud.source(provider)
        read = cloud.read()
        assert read.code
        assert "certificate" in read.complaint
        assert not simulator.log
        cloud.env = {"SSL_CERT_FILE": str(CA)}
        assert len(cloud.listed().hosts) == 3


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_the_cache(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(3))
    caching = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(cloud.home / "cache")}
    cloud.source(provider, **caching)
    first = cloud.listed()
    asked = len(cloud.simulator.log)
    second = cloud.listed()
    assert second.hosts == first.hosts
    assert second.groups == first.groups
    assert len(cloud.simulator.log) == asked, "a fresh cache needs no request"
    cloud.sources.clear()
    cloud.source(provider, filters={"name": "db-*"}, **caching)
    assert set(cloud.listed().hosts) == {"db-00001"}, "another question has another answer"


def test_a_stale_list_is_used_by_choice_only(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(3))
    caching = {
        "cache": True, "cache_plugin": "jsonfile", "cache_connection": str(cloud.home / "cache"),
        "cache_timeout": 1, "total_timeout_seconds": 3,
    }  # fmt: skip
    cloud.source(provider, **caching, cache_fallback=True)
    fresh = cloud.listed()
    time.sleep(1.1)
    cloud.simulator.fault(provider, "status", times=0, status=503, body="")
    stale = cloud.listed()
    assert stale.hosts == fresh.hosts
    assert "cache_fallback" in stale.complaint
    assert re.search(r"\d+ second", stale.complaint, re.IGNORECASE), stale.complaint
    cloud.sources.clear()
    cloud.source(provider, **caching)
    assert cloud.read().code, "without cache_fallback it is an error"


# -- constructed -------------------------------------------------------------------------------------------------------

KEYS = [
    "bulwark_region", "bulwark_plan", "bulwark_status", "bulwark_image", "bulwark_labels", "bulwark_labels.env",
    "bulwark_labels['env']", "bulwark_labels.nothing", "bulwark_tags", "bulwark_name", "bulwark_public_ipv6",
    "bulwark_private_ipv4", "bulwark_private_networks", "bulwark_id", "no_such_variable", "no.such.thing",
    "bulwark_name | upper", "bulwark_labels.role ~ '_' ~ bulwark_region",
    "bulwark_labels.keys() | list", "bulwark_name.split('-')", "bulwark_labels.get('env')", "composed",
    "ansible_host", "inventory_hostname",
]  # fmt: skip


def keyed_group(dice: random.Random) -> dict[str, Any]:
    entry: dict[str, Any] = {"key": dice.choice(KEYS)}
    if dice.random() < 0.7:
        entry["prefix"] = dice.choice(["", "p", "a b", "bulwark", "{{ bulwark_region }}"])
    if dice.random() < 0.5:
        entry["separator"] = dice.choice(["", "_", "-", "__"])
    way = dice.random()
    if way < 0.2:
        entry["default_value"] = dice.choice(["none", "other value"])
    elif way < 0.4:
        entry["trailing_separator"] = dice.choice([True, False])
    if dice.random() < 0.3:
        entry["parent_group"] = dice.choice(["above", "by-{{ bulwark_labels.env }}", "bulwark status"])
    return entry


def test_constructed_means_what_it_means_elsewhere(cloud: Cloud, provider: str, dice: random.Random) -> None:
    """Against Ansible's own plugin `constructed`, which reads the same variables."""
    cloud.simulator.fill(provider, [*fleet(9), *awkward(provider)])
    given = {
        "strict": False,
        "compose": {
            "composed": "bulwark_labels.env | default('none')",
            "dotted": "bulwark_labels.env",
            "number": "bulwark_name | length",
            "list_of": "bulwark_tags",
            "broken": "bulwark_nothing.at.all",
        },
        "groups": {"on": "bulwark_status == 'running'", "in-prod": "bulwark_labels.env == 'prod'", "all_of": "true"},
        "keyed_groups": [keyed_group(dice) for _ in range(40)],
    }
    own = [cloud.source(provider, **given, group_by=[])]
    ours = cloud.listed()
    cloud.sources.clear()
    cloud.source(provider, group_by=[])
    cloud.other("z.constructed.yml", {"plugin": "ansible.builtin.constructed", **given})
    theirs = cloud.listed()
    assert own
    assert ours.hosts == theirs.hosts
    different = {
        name: (ours.groups.get(name, set()) ^ theirs.groups.get(name, set()))
        for name in {*ours.groups, *theirs.groups}
        if ours.groups.get(name) != theirs.groups.get(name)
    }
    assert not different, json.dumps(given["keyed_groups"])
    children = [{name: sorted(one.get("children", [])) for name, one in read.tree.items()} for read in (ours, theirs)]
    assert children[0] == children[1]


def test_strict_is_strict(cloud: Cloud, provider: str, dice: random.Random) -> None:
    cloud.simulator.fill(provider, fleet(2))
    mistakes: list[dict[str, Any]] = [
        {"compose": {"x": "bulwark_labels.nothing"}},
        {"groups": {"x": "bulwark_nothing"}},
        {"keyed_groups": [{"key": "bulwark_labels.nothing"}]},
    ]
    for wrong in mistakes if FULL else [dice.choice(mistakes)]:
        cloud.sources.clear()
        cloud.source(provider, strict=True, **wrong)
        read = cloud.read()
        assert read.code, wrong
        assert f"main.{provider}.yml" in read.complaint


def test_options_that_are_wrong_are_said(cloud: Cloud, provider: str, dice: random.Random) -> None:
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"connect_with": "public_ip"}, "connect_with"),
        ({"filters": {"colour": "red"}}, "colour"),
        ({"filters": {"status": "active"}}, "status"),
        ({"hostvars_prefix": "ansible_"}, "hostvars_prefix"),
        ({"api_url": "ftp://example.org"}, "api_url"),
    ]
    for wrong, word in mistakes if FULL else [dice.choice(mistakes)]:
        cloud.sources.clear()
        cloud.source(provider, **wrong)
        read = cloud.read()
        assert read.code, wrong
        assert word in read.complaint
    assert not cloud.simulator.log, "nothing is asked for with options that are wrong"


def test_the_prefix(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(1))
    cloud.source(provider, hostvars_prefix="vm_")
    host = cloud.listed().hosts["db-00001"]
    assert host["vm_name"] == "db-00001"
    assert not [name for name in host if name.startswith("bulwark_")]


# -- what we tell people to write --------------------------------------------------------------------------------------


def examples(provider: str) -> list[dict[str, Any]]:
    """The annotated file, and those in the documentation of the plugin."""
    plugin = (ROOT / f"plugins/inventory/{provider}.py").read_text(encoding="utf-8")
    written = plugin.partition('EXAMPLES = r"""')[2].partition('"""')[0]
    files = sorted((ROOT / "inventories/cloud").glob(f"*{provider}.yml"))
    assert files, "there is no annotated file"
    texts = [*(file.read_text(encoding="utf-8") for file in files), written]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def test_the_examples_work(cloud: Cloud, provider: str) -> None:
    cloud.simulator.fill(provider, fleet(6))
    for number, example in enumerate(examples(provider)):
        assert example["plugin"] == f"bulwark.stack.{provider}"
        ours = {"api_url": cloud.simulator.url(provider), "api_token": cloud.simulator.token(provider)}
        if example.get("cache") or example.get("cache_fallback"):
            ours |= {"cache_plugin": "jsonfile", "cache_connection": str(cloud.home / "cache")}
        example.pop("api_token_file", None)
        cloud.other(f"{number}.{provider}.yml", {**example, **ours})
    assert cloud.listed().hosts


# -- requests ----------------------------------------------------------------------------------------------------------


def test_as_few_requests_as_the_documents_allow(cloud: Cloud, provider: str) -> None:
    """A thousand servers: the pages of their list, and what else there is to ask once."""
    cloud.simulator.fill(provider, fleet(1000))
    cloud.source(provider)
    assert len(cloud.listed().hosts) == 1000
    asked = cloud.simulator.log
    assert len(asked) <= {"hetzner": 21, "digitalocean": 7, "vultr": 3, "linode": 5}[provider], [
        one.path for one in asked
    ]
    assert len({one.connection for one in asked}) <= 16

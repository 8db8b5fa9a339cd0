"""provision.yml and snapshot_servers.yml as a user runs them, with the inventory plugin that has to see the result."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils._cloud.build import Clock
from plugins.module_utils._cloud.http import Account
from plugins.module_utils._cloud_module import CLOUDS
from tests.cloud.conftest import ROOT, Cloud, Read
from tests.cloud.test_provision import KEY, PLACES, make_zone

SITE = {
    "bulwark_admin_users": [{"name": "deploy", "keys": [KEY]}],
    "bulwark_domain": "www.example.com",
    "bulwark_networks": [{"name": "shop", "range": "10.20.0.0/16"}],
    "redis_instances": [
        {"name": "broker", "allow_from": ["10.20.0.0/16"], "users": [{"name": "app", "password": "x" * 20}]}
    ],
}


class Site:
    """An inventory folder with declared servers; site.yml itself is left out, because there are no hosts."""

    def __init__(self, cloud: Cloud, provider: str) -> None:
        self.cloud, self.provider, self.simulator = cloud, provider, cloud.simulator
        self.api = self.simulator.apis[provider]
        self.api.boot_seconds = 0.1
        # Where nobody answers, and says so at once.
        self.api.free_addresses = [f"127.0.9.{n}" for n in range(1, 9)]
        place = {"provider": provider, "region": PLACES[provider].region, "plan": PLACES[provider].plan}
        self.servers: list[dict[str, Any]] = [
            {"name": "web1", **place, "roles": ["web"], "networks": ["shop"], "dns": ["www.example.com"]},
            {"name": "db1", **place, "roles": ["redis"], "networks": ["shop"]},
        ]
        make_zone(self.simulator, provider)

    def run(self, *words: str, playbook: str = "provision") -> Read:
        account = {"api_token": self.simulator.token(self.provider), "api_url": self.simulator.url(self.provider)}
        given = {**SITE, "bulwark_servers": self.servers, "provision_accounts": {self.provider: account}}
        self.cloud.sources = [one for one in self.cloud.sources if not one.endswith("hosts.yml")]
        self.cloud.other("hosts.yml", {"all": {"vars": given}})
        # There are no hosts, so the first contact is short and the site is not converged.
        short = ("-e", "base_hardening_connect_seconds=1", "-e", "site_hosts=!all", "-e", "ansible_port=9")
        return self.cloud.run(
            "ansible-playbook", "-i", str(self.cloud.folder), str(ROOT / f"playbooks/{playbook}.yml"), *short, *words
        )

    def names(self) -> set[str]:
        kind = self.api.server_kinds[0]
        return {one.get("name") or one["label"] for one in self.simulator.account(self.provider).all(kind)}

    def writes(self) -> int:
        return len([one for one in self.simulator.asked(self.provider) if one.method != "GET"])


@pytest.fixture
def site(cloud: Cloud, provider: str) -> Site:
    return Site(cloud, provider)


def test_servers_come_and_go(site: Site) -> None:
    """One life, because each run of a playbook takes seconds."""
    begun = site.writes()
    asked = site.run()
    assert asked.code == 2, asked.said[-2000:]
    assert "Nothing was changed. To go on, run it again with -e provision_confirmed=yes" in asked.said
    checked = site.run("--check")
    assert checked.code == 0, checked.said[-2000:]
    for read in (asked, checked):
        assert "web1" in read.out
        assert "Monthly cost: 0.00" in read.out
    assert site.writes() == begun
    assert site.names() == set()

    unseen = site.run("-e", "provision_confirmed=yes")
    assert site.names() == {"web1", "db1"}
    assert unseen.code != 0
    assert "the inventory has no address for it" in unseen.said
    the_firewalls_are_those_of_the_hosts(site)

    # With the plugin's file it goes on to the first contact, at the address that the provider gave.
    site.cloud.source(site.provider, connect_with=["public_ipv4"])
    seen = site.run("-e", "provision_confirmed=yes")
    assert "Everything is as declared." in seen.out
    listed = site.cloud.listed()
    assert listed.hosts["web1"]["ansible_host"].startswith("127.0.9.")
    assert listed.hosts["web1"]["ansible_host"] in seen.said
    assert "web1" in listed.groups["web"]
    assert "db1" in listed.groups["redis"]

    site.servers = site.servers[:1]
    gone = site.run("-e", "provision_destroy=db1")
    assert "run it again with" in gone.said
    assert site.names() == {"web1", "db1"}
    assert snapshots(site) == []
    site.run("-e", "provision_destroy=db1", "-e", "provision_confirmed=yes")
    assert site.names() == {"web1"}
    assert [name.rpartition("-")[0] for name in snapshots(site)] == ["bulwark-db1"]

    taken = site.run(playbook="snapshot_servers")
    assert taken.code == 0, taken.said[-2000:]
    assert [name.rpartition("-")[0] for name in snapshots(site)] == ["bulwark-db1", "bulwark-web1"]
    again = site.run(playbook="snapshot_servers")
    assert "changed=0" in again.out


def the_firewalls_are_those_of_the_hosts(site: Site) -> None:
    with Account(site.provider, site.simulator.token(site.provider), site.simulator.url(site.provider)) as account:
        there = {one.name: one for one in CLOUDS[site.provider](account, Clock()).look([]) if one.kind == "firewall"}
    ping = ["icmp - 0.0.0.0/0", "icmp - ::/0"]
    ssh = ["tcp 22 0.0.0.0/0", "tcp 22 ::/0"]
    web = ["tcp 443 0.0.0.0/0", "tcp 443 ::/0", "tcp 80 0.0.0.0/0", "tcp 80 ::/0"]
    assert there["bulwark-web"].spec["rules"] == sorted([*ping, *ssh, *web])
    assert there["bulwark-redis"].spec["rules"] == sorted([*ping, *ssh, "tcp 6379 10.20.0.0/16"])


def snapshots(site: Site) -> list[str]:
    stock = site.simulator.account(site.provider).stock
    found = [*stock.get("snapshots", {}).values(), *stock.get("images", {}).values()]
    words = {str(one.get(word)) for one in found for word in ("name", "description", "label")}
    return sorted(word for word in words if word.startswith("bulwark-"))

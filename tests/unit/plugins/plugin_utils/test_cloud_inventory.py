"""The base of the plugins: names of hosts, tokens, what the cache is keyed by, and no part of a list."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.inventory.data import InventoryData
from ansible.template import trust_as_template

from plugins.module_utils._cloud.http import Account
from plugins.plugin_utils import _cloud_inventory as base
from plugins.plugin_utils._cloud_filters import Filters
from plugins.plugin_utils._cloud_schema import FAMILIES, Connecting, Server
from tests.unit.plugins.plugin_utils.test_cloud_schema import server

OPTIONS = {
    "without_address": "keep",
    "duplicate_names": "rename",
    "group_by": list(FAMILIES),
    "provider_data": False,
    "strict": True,
    **dict.fromkeys(("hostname", "api_token", "api_token_file", "use_extra_vars")),
    **{key: {} for key in ("compose", "groups")},
    **{key: [] for key in ("keyed_groups", "include", "exclude", "connect_with")},
}


class Display:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Plugin(base.CloudInventory):
    """Without a file: options as they are read out of one."""

    NAME, provider = "bulwark.stack.vultr", "vultr"

    def __init__(self, inventory: InventoryData | None = None, **options: Any) -> None:
        super().__init__()
        self.given = {**OPTIONS, **options}
        self.origins: dict[str, str] = {}
        self.inventory = inventory or InventoryData()
        self.display = Display()
        self.label, self.prefix, self._vars = "prod.vultr.yml", "bulwark_", {}
        self.connecting, self.filters, self.api_url = Connecting(["public_ipv4"]), Filters({}), "https://api.example/v2"
        self.conditions = self.templar

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        return self.given[option]

    def get_option_and_origin(self, option: str, hostvars: Any = None) -> Any:
        return self.given[option], self.origins.get(option, "direct")


def names(plugin: Plugin, *servers: Server) -> dict[str, str]:
    """The ids of the hosts by their names."""
    plugin.fill(plugin_sorted(servers))
    return {name: host.vars["bulwark_id"] for name, host in plugin.inventory.hosts.items() if "bulwark_id" in host.vars}


def plugin_sorted(servers: Any) -> list[Server]:
    return sorted(servers, key=base.age)


def test_two_servers_with_one_name_are_two_hosts_and_the_oldest_keeps_it():
    plugin = Plugin()
    young = server(id="b", created="2026-02-01T00:00:00Z")
    assert names(plugin, young, server(id="a")) == {"web1": "a", "web1-b": "b"}
    assert "server b is called 'web1', but vultr a has that name already" in plugin.display.warnings[0]


def test_a_suffix_that_is_taken_gets_another():
    assert names(Plugin(), server(id="a"), server(id="b", name="web1-c"), server(id="c")) == {
        "web1": "a",
        "web1-c": "b",
        "web1-c-c": "c",
    }


def test_the_second_source_does_not_take_the_host_of_the_first():
    first = Plugin()
    assert names(first, server(id="a")) == {"web1": "a"}
    assert names(Plugin(first.inventory), server(id="b")) == {"web1": "a", "web1-b": "b"}


def test_one_server_in_two_sources_is_one_host():
    first = Plugin()
    names(first, server(id="a"))
    second = Plugin(first.inventory)
    assert names(second, server(id="a")) == {"web1": "a"}
    assert not second.display.warnings


def test_a_static_host_with_the_name_is_the_same_host():
    plugin = Plugin()
    plugin.inventory.add_host("web1")
    plugin.inventory.set_variable("web1", "mine", 1)
    assert names(plugin, server(id="a"), server(id="b")) == {"web1": "a", "web1-b": "b"}
    assert plugin.inventory.hosts["web1"].vars["mine"] == 1


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_no_server_becomes_the_machine_ansible_runs_on(name):
    plugin = Plugin()
    assert names(plugin, server(id="a", name=name)) == {f"{name}-a": "a"}
    assert plugin.inventory.localhost is None


def test_a_host_with_the_name_of_its_group():
    """Variables must not become those of the group, nor the group its own child."""
    plugin = Plugin(compose={"x": trust_as_template("1 + 1")}, groups={"web": trust_as_template("true")})
    assert names(plugin, server(id="a", name="web", tags=["role:web"])) == {"web": "a"}
    assert [host.name for host in plugin.inventory.groups["web"].hosts] == ["web"]
    assert plugin.inventory.hosts["web"].vars["x"] == 2
    assert "x" not in plugin.inventory.groups["web"].vars
    assert plugin.inventory.groups["web"].child_groups == []


@pytest.mark.parametrize(
    "options",
    [
        {"duplicate_names": "fail"},
        {"without_address": "fail"},
        {"compose": {"x": trust_as_template("no.such")}},
        {"groups": {"x": trust_as_template("no.such")}},
        {"keyed_groups": [{"key": trust_as_template("no.such")}]},
        {"hostname": trust_as_template("no.such")},
    ],
)
def test_an_error_leaves_no_part_of_the_list(options):
    plugin = Plugin(**options)
    plugin.inventory.add_host("mine")
    with pytest.raises((base.InventoryError, base.AnsibleError)):
        plugin.fill([server(id="a"), server(id="b", public_ipv4=None), server(id="c", name="web2")])
    assert list(plugin.inventory.hosts) == ["mine"]
    assert all(host.name == "mine" for group in plugin.inventory.groups.values() for host in group.hosts)


def test_hosts_without_an_address_are_named():
    plugin = Plugin(without_address="leave_out")
    assert names(plugin, server(id="a"), server(id="b", name="inner", public_ipv4=None)) == {"web1": "a"}
    assert (
        "1 server has no address of connect_with (public_ipv4): inner; they are left out" in plugin.display.warnings[0]
    )
    kept = Plugin()
    names(kept, server(id="b", name="inner", public_ipv4=None))
    assert "ansible_host" not in kept.inventory.hosts["inner"].vars


def test_no_address_out_of_compose_takes_none_away():
    plugin = Plugin(compose={"ansible_host": trust_as_template("bulwark_private_ipv4")})
    names(plugin, server(id="a"))
    assert plugin.inventory.hosts["web1"].vars["ansible_host"] == "198.51.100.1"


def test_where_a_token_comes_from(tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    source = str(tmp_path / "prod.vultr.yml")
    assert Plugin(api_token="given").token(source) == "given"
    assert Plugin(api_token_file="token").token(source) == "from-file"
    assert Plugin(api_token="given", api_token_file="token").token(source) == "given"
    from_environment = Plugin(api_token="in-environment", api_token_file="token")
    from_environment.origins["api_token"] = "env: VULTR_API_KEY"
    assert from_environment.token(source) == "from-file"
    with pytest.raises(ValueError, match="VULTR_API_KEY"):
        Plugin().token(source)
    with pytest.raises(ValueError, match="api_token_file cannot be read"):
        Plugin(api_token_file="none").token(source)


def key(token: str = "a", **more: Any) -> str:
    plugin = Plugin(**more)
    plugin.account = Account("vultr", token)
    plugin.filters = Filters(more.get("filters", {}))
    return plugin.cache_key()


def test_another_account_or_question_is_another_entry():
    keys = [key(), key(token="b"), key(provider_data=True), key(filters={"region": "fra"}), key(connect_with=["name"])]
    assert len(set(keys)) == len(keys)
    assert key() == key()
    secret = "0123456789abcdef0123456789abcdef"
    assert secret not in key(token=secret)


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 SECONDS"), (600, "10 MINUTES"), (86400, "24.0 HOURS")])
def test_ages(seconds, text):
    assert base.span(seconds) == text

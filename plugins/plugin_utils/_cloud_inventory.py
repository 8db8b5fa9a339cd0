# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the inventory plugins of the four clouds share: options, token, cache, hosts and groups."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from ansible import constants
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.inventory.host import Host
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.template import Templar
from ansible.vars.reserved import get_reserved_names

from ..module_utils._cloud.connection import LOOPBACK
from ..module_utils._cloud.errors import CloudError
from ..module_utils._cloud.http import Account
from ..module_utils._cloud.providers import PROVIDERS
from ._cloud_expressions import NOTHING, compile_once, look_up
from ._cloud_filters import Filters
from ._cloud_schema import VARIABLES, Connecting, Server, age, groups, text

# Entries of a cache that were written in another form are not read.
CACHE_FORM = 1
# Which server a host is, so that two servers with one name do not become one host.
SERVERS: weakref.WeakKeyDictionary[Host, tuple[str, str]] = weakref.WeakKeyDictionary()


class InventoryError(Exception):
    """What is wrong with a server, a name or an expression."""


class Kept(NamedTuple):
    """@param age_seconds: since it was fetched"""

    servers: list[Server]
    age_seconds: float


class CloudInventory(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    """The base; a plugin has C(NAME), C(provider) and C(fetch)."""

    provider = ""
    # Options beside the filters that change what fetch gives.
    fetch_options: tuple[str, ...] = ("provider_data",)

    def fetch(self, account: Account) -> list[Server]:
        """All servers of the account, or at least those that self.filters lets through.

        @raises CloudError: if they are not to be had
        """
        raise NotImplementedError

    def verify_file(self, path: str) -> bool:
        """A YAML file of any name that says that it is for this plugin."""
        if not path.endswith((".yml", ".yaml")) or not super().verify_file(path):
            return False
        short = self.NAME.rpartition(".")[2]
        wanted = re.compile(rf"^plugin:\s*['\"]?({re.escape(self.NAME)}|{short})['\"]?\s*(#.*)?$", re.MULTILINE)
        with open(path, encoding="utf-8", errors="replace") as handle:
            return wanted.search(handle.read()) is not None

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache=cache)
        self._read_config_data(path)
        self.label = os.path.basename(path)
        try:
            self.read_options(path)
            self.fill(self.chosen(self.servers(cache and self.get_option("cache"))))
        except (AnsibleError, CloudError, InventoryError, ValueError) as error:
            self.give_up(str(error))

    def give_up(self, text: str) -> NoReturn:
        """Ends with one error that names the account.

        Where a source without hosts ends the run, it ends here: Ansible would let all other parsers complain about the
        same file first, and bury the reason.
        """
        name = f"{PROVIDERS[self.provider].name} ({self.label})"
        text = text if text.startswith(name) else f"{name}: {text.rstrip('.')}."
        if constants.config.get_config_value("INVENTORY_ANY_UNPARSED_IS_FAILED"):
            self.display.error(text)
            raise SystemExit(1)
        raise AnsibleParserError(text)

    # -- options -------------------------------------------------------------------------------------------------------

    def option(self, name: str) -> Any:
        """An option, which may be a template; its variables are the extra variables."""
        self.templar.available_variables = self._vars or {}
        try:
            return self.templar.template(self.get_option(name))
        except AnsibleError as error:
            raise ValueError(f"{name} is a template that fails: {error}") from None

    def read_options(self, path: str) -> None:
        """Checks all options before anything is asked for.

        @raises ValueError: what is wrong with one
        """
        compile_once(self.templar)
        self.conditions = Templar(loader=self.loader)
        compile_once(self.conditions)
        self.filters = Filters(self.option("filters"))
        self.connecting = Connecting(self.option("connect_with"))
        self.chosen_by = {
            name: [self.choice(one, name) for one in self.option(name)] for name in ("include", "exclude")
        }
        self.prefix = str(self.option("hostvars_prefix"))
        names = [self.prefix + name for name in VARIABLES]
        reserved = sorted(set(names) & set(get_reserved_names()))
        if reserved or self.prefix.startswith("ansible_") or not all(map(str.isidentifier, names)):
            why = (
                f"{', '.join(reserved)} would be reserved names" if reserved else "it must make names that are allowed"
            )
            raise ValueError(f"hostvars_prefix cannot be '{self.prefix}' because {why}; use one such as bulwark_")
        if self.get_option("cache_fallback") and str(self.get_option("cache_plugin")).endswith("memory"):
            raise ValueError(
                "cache_fallback needs a cache that outlives the run: set cache_plugin to jsonfile and cache_connection "
                "to a directory"
            )
        token = self.token(path)
        self.api_url = str(self.option("api_url") or "")
        address = urlsplit(self.api_url)
        if address.scheme == "http" and address.hostname not in LOOPBACK:
            self.display.warning(f"{self.label}: api_url is not https, so the API token crosses the network readable.")
        self.account = Account(
            self.provider,
            token,
            self.api_url,
            self.label,
            request_timeout_seconds=self.get_option("request_timeout_seconds"),
            total_timeout_seconds=self.get_option("total_timeout_seconds"),
        )

    def token(self, path: str) -> str:
        """From the option, else from the file, else from the environment."""
        given, origin = self.get_option_and_origin("api_token")
        file = self.option("api_token_file")
        if file and (not given or str(origin).startswith("env")):
            try:
                with open(os.path.join(os.path.dirname(path), os.path.expanduser(file)), encoding="utf-8") as handle:
                    return handle.read().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"api_token_file cannot be read ({error})") from None
        token = str(self.option("api_token") or "").strip()
        if not token:
            variables = " or ".join(PROVIDERS[self.provider].variables)
            raise ValueError(f"there is no API token; set api_token, api_token_file or the environment's {variables}")
        return token

    def choice(self, one: Any, option: str) -> Callable[[Server], bool]:
        """A test for an entry of include or exclude."""
        if isinstance(one, Mapping):
            return Filters(one, option).fit
        if not isinstance(one, str):
            raise ValueError(f"{option} takes dictionaries as for filters and expressions, not {one!r}")
        return lambda server: self.holds(one, self.variables(server))

    # -- servers -------------------------------------------------------------------------------------------------------

    def servers(self, from_cache: bool) -> list[Server]:
        """From the cache if that is allowed and fresh, else from the API, else from an old cache if that is allowed."""
        fallback = self.get_option("cache_fallback")
        keeps = fallback or self.get_option("cache")
        limit = self.get_option("cache_timeout")
        if fallback:
            # The plugin must not forget what is too old; whether it is, is decided here.
            self.set_option("cache_timeout", 0)
        if keeps:
            self.load_cache_plugin()
        kept = self.kept() if from_cache or fallback else None
        if from_cache and kept and (not limit or 0 <= kept.age_seconds <= limit):
            return kept.servers
        try:
            with self.account:
                servers = self.account.within_time(lambda: self.fetch(self.account))
        except CloudError as error:
            if not fallback or not kept:
                raise
            self.display.warning(
                f"{error} BECAUSE OF cache_fallback THIS RUN USES A LIST THAT IS {span(kept.age_seconds)} OLD; servers "
                "may have been added, removed or replaced since."
            )
            return kept.servers
        if keeps:
            self.keep(servers)
        return servers

    def network_names(self, account: Account, path: str, key: str, field: str) -> dict[str, str | None]:
        """The names of private networks by their ids, if somebody wants them.

        @raises CloudError: if they are not to be had although a network is named
        """
        named = bool(self.connecting.networks or "networks" in self.filters.wanted)
        choices = [*self.get_option("include"), *self.get_option("exclude")]
        if not named and not self.get_option("network_names") and "networks" not in str(choices):
            return {}
        try:
            return {str(one["id"]): text(one.get(field)) for one in account.list_all(path, key)}
        except CloudError as error:
            if named or error.status not in (401, 403, 404):
                raise
            self.display.warning(f"{error} The private networks have no names.")
            return {}

    def cache_key(self) -> str:
        """Another account, address or question is another entry; a token cannot be found from its hash."""
        token = hashlib.sha256(self.account.token.encode()).hexdigest()
        options = {name: self.get_option(name) for name in (*self.fetch_options, "connect_with", "include", "exclude")}
        asked = [CACHE_FORM, self.api_url, token, self.filters.wanted, options]
        written = json.dumps(asked, sort_keys=True, default=str)
        return f"{self.provider}_{hashlib.sha256(written.encode()).hexdigest()[:24]}"

    def kept(self) -> Kept | None:
        """What the cache has; a damaged entry is none."""
        try:
            entry = self._cache[self.cache_key()]
            return Kept(json.loads(entry["servers"]), time.time() - float(entry["fetched"]))
        except KeyError:
            return None
        except (AnsibleError, TypeError, ValueError) as error:
            self.display.warning(f"{self.label}: the cache could not be read and is made anew ({error}).")
            return None

    def keep(self, servers: list[Server]) -> None:
        """As one text, which every cache plugin writes and reads without looking into it."""
        self._cache[self.cache_key()] = {"fetched": time.time(), "servers": json.dumps(servers)}
        self._cache.set_cache()

    def chosen(self, servers: list[Server]) -> list[Server]:
        """What filters, include and exclude leave, the oldest first."""
        include, exclude = self.chosen_by["include"], self.chosen_by["exclude"]
        return [
            server
            for server in sorted(servers, key=age)
            if self.filters.fit(server)
            and (not include or any(test(server) for test in include))
            and not any(test(server) for test in exclude)
        ]

    # -- hosts ---------------------------------------------------------------------------------------------------------

    def variables(self, server: Server) -> dict[str, Any]:
        known = {**server, "provider": self.provider, "private_ipv4": self.connecting.private_ipv4(server)}
        if known["provider_data"] is None:
            del known["provider_data"]
        done = {self.prefix + name: known[name] for name in VARIABLES if name in known}
        address = self.connecting.address(server)
        if address:
            done["ansible_host"] = address
        return done

    def fill(self, servers: list[Server]) -> None:
        """Adds all hosts or none, so that nobody works with some of them."""
        before = set(self.inventory.hosts)
        try:
            self.add_all(servers)
        except (AnsibleError, InventoryError):
            for host in [host for name, host in self.inventory.hosts.items() if name not in before]:
                self.inventory.remove_host(host)
            raise

    def add_all(self, servers: list[Server]) -> None:
        """Adds the hosts, then their groups; by their objects, because a host may have the name of a group."""
        hosts: list[tuple[Host, Server]] = []
        lost = []
        for server in servers:
            variables = self.variables(server)
            if "ansible_host" not in variables:
                lost.append(server["name"])
                if self.get_option("without_address") == "leave_out":
                    continue
            host = self.add(server, self.host_name(server, variables))
            host.vars.update(variables)
            hosts.append((host, server))
        self.report(lost)
        families, safe = self.get_option("group_by"), Names(self._sanitize_group_name)
        members: dict[str, list[Host]] = {}
        for host, server in hosts:
            for name in sorted(groups(self.provider, server, families, safe)):
                members.setdefault(name, []).append(host)
        for name, group_hosts in members.items():
            group = self.inventory.groups[self.inventory.add_group(name)]
            for host in group_hosts:
                group.add_host(host)
        if any(self.get_option(name) for name in ("compose", "groups", "keyed_groups")):
            for host, _server in hosts:
                self.construct(host)

    def host_name(self, server: Server, variables: dict[str, Any]) -> str:
        expression = self.get_option("hostname")
        if not expression:
            return server["name"]
        try:
            return str(self._compose(expression, {**variables, "inventory_hostname": server["name"]}) or "")
        except AnsibleError as error:
            raise InventoryError(f"hostname fails for {server['name']}: {error}") from None

    def add(self, server: Server, name: str) -> Host:
        """The host of a server. A name that another server has, or that means this machine, gets the id behind it."""
        me = (self.provider, server["id"])
        wanted = name
        while (name in self.inventory.hosts and SERVERS.get(self.inventory.hosts[name], me) != me) or name in (
            *constants.LOCALHOST,
            "",
        ):
            name = f"{name}-{server['id']}" if name else server["id"]
        if name != wanted:
            other = SERVERS.get(self.inventory.hosts[wanted]) if wanted in self.inventory.hosts else None
            why = f"{' '.join(other)} has that name already" if other else "that name means the machine Ansible runs on"
            if self.get_option("duplicate_names") == "fail":
                raise InventoryError(
                    f"server {server['id']} is called '{wanted}', but {why}; rename it or set hostname"
                )
            self.display.warning(
                f"{self.label}: server {server['id']} is called '{wanted}', but {why}; it is '{name}' here."
            )
        self.inventory.add_host(name)
        host: Host = self.inventory.hosts[name]
        SERVERS[host] = me
        return host

    def report(self, lost: list[str]) -> None:
        """Names the hosts that there is no address for."""
        if not lost:
            return
        shown = ", ".join(lost[:20]) + (f" and {len(lost) - 20} more" if len(lost) > 20 else "")
        wanted = ", ".join(":".join(filter(None, one)) for one in self.connecting.wanted)
        count = "1 server has" if len(lost) == 1 else f"{len(lost)} servers have"
        text = f"{count} no address of connect_with ({wanted}): {shown}"
        choice = self.get_option("without_address")
        if choice == "fail":
            raise InventoryError(f"{text}; give connect_with another one, or set without_address to keep or leave_out")
        kept = {"keep": "they are kept without ansible_host", "leave_out": "they are left out"}[choice]
        self.display.warning(f"{self.label}: {text}; {kept} (without_address).")

    # -- constructed ---------------------------------------------------------------------------------------------------

    def _compose(self, template: Any, variables: dict[str, Any], *words: Any) -> Any:
        """As the base class has it, but a dotted name needs no Jinja. Extra variables come first there too."""
        if not self.get_option("use_extra_vars"):
            found = look_up(template, variables)
            if found is not NOTHING:
                return found
        return super()._compose(template, variables, *words)

    def holds(self, condition: Any, variables: dict[str, Any]) -> bool:
        self.conditions.available_variables = variables
        try:
            return bool(self.conditions.evaluate_conditional(condition))
        except AnsibleError as error:
            name = variables[self.prefix + "name"]
            raise InventoryError(f"the condition '{condition}' fails for {name}: {error}") from None

    def construct(self, host: Host) -> None:
        """compose, groups and keyed_groups of one host, with the meaning that they have everywhere."""
        strict, variables = self.get_option("strict"), host.get_vars()
        for name, expression in self.get_option("compose").items():
            try:
                value = self._compose(expression, variables)
            except AnsibleError as error:
                if strict:
                    raise InventoryError(f"compose.{name} fails for {host.name}: {error}") from None
                continue
            if name == "ansible_host" and value is None:
                self.display.warning(f"{self.label}: compose gives {host.name} no ansible_host; it stays as it was.")
                continue
            host.set_variable(name, value)
        variables = host.get_vars()
        self.conditions.available_variables = variables
        for name, condition in self.get_option("groups").items():
            try:
                fits = self.conditions.evaluate_conditional(condition)
            except AnsibleError as error:
                if strict:
                    raise InventoryError(f"groups.{name} fails for {host.name}: {error}") from None
                continue
            if fits:
                group = self.inventory.add_group(self._sanitize_group_name(name))
                self.inventory.groups[group].add_host(host)
        self._add_host_to_keyed_groups(
            self.get_option("keyed_groups"), variables, host.name, strict=strict, fetch_hostvars=False
        )


class Names(dict[str, str]):
    """Valid names of groups; each is made once."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, name: str) -> str:
        self[name] = done = self.make(name)
        return done

    def __call__(self, name: str) -> str:
        return self[name]


def span(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.0f} SECONDS"
    if seconds < 7200:
        return f"{seconds / 60:.0f} MINUTES"
    return f"{seconds / 3600:.1f} HOURS"

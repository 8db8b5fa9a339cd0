# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what a user declares to the resources that are to be there. Pure.

A server is a dictionary with name, provider, region, plan, image and optionally roles, labels, networks, volumes, dns
and firewall_rules; the documentation of the module C(cloud_servers) says what each means.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from .plan import Resource

ANYWHERE = ("0.0.0.0/0", "::/0")
# Images under one name at every provider; any other name is the provider's own.
IMAGES = {
    "debian-12": {"digitalocean": "debian-12-x64", "vultr": "Debian 12 x64 (bookworm)", "linode": "linode/debian12"},
    "debian-13": {"digitalocean": "debian-13-x64", "vultr": "Debian 13 x64 (trixie)", "linode": "linode/debian13"},
    "ubuntu-22.04": {
        "digitalocean": "ubuntu-22-04-x64",
        "vultr": "Ubuntu 22.04 LTS x64",
        "linode": "linode/ubuntu22.04",
    },
    "ubuntu-24.04": {
        "digitalocean": "ubuntu-24-04-x64",
        "vultr": "Ubuntu 24.04 LTS x64",
        "linode": "linode/ubuntu24.04",
    },
}
# What every provider takes.
FIREWALL_NAME = 32
NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
ROLE = re.compile(r"[a-z][a-z0-9_]{0,40}")
LABEL = re.compile(r"(?!role$|bulwark)[a-z][a-z0-9_-]{1,39}[a-z0-9]")
VALUE = re.compile(r"([a-z0-9]([a-z0-9_-]{0,40}[a-z0-9])?)?")
DOMAIN = re.compile(r"(?!-)([a-z0-9-]{1,63}\.)+[a-z]{2,63}")


class Declared(TypedDict):
    servers: Sequence[Mapping[str, Any]]
    networks: Sequence[Mapping[str, Any]]
    load_balancers: Sequence[Mapping[str, Any]]
    admin_users: Sequence[Mapping[str, Any]]


def keys_of(users: Iterable[Mapping[str, Any]]) -> list[str]:
    """The public keys of all admin users, without their comments."""
    found = [key for user in users if user.get("state") != "absent" for key in user.get("keys") or []]
    return sorted({key_body(key) for key in found})


def key_body(key: str) -> str:
    return " ".join(key.split()[:2])


def key_name(key: str) -> str:
    """A name that is the same for the same key, however it is called elsewhere."""
    return "bulwark-" + hashlib.sha256(key_body(key).encode()).hexdigest()[:12]


def user_data(users: Iterable[Mapping[str, Any]]) -> str:
    """What cloud-init does at the first boot: the admin users with their keys, see cloudinit.readthedocs.io.

    Users whose sudo asks for a password are left to the role base_hardening, which comes in as root: their hash would
    be in the metadata that every program on the host can read. JSON is YAML, and needs no quoting of ours.
    """
    admins = [user for user in users if user.get("state") != "absent" and user.get("sudo") != "password"]
    # The file that base_hardening writes too, so nothing of the first contact stays behind.
    sudoers = "".join(f"{user['name']} ALL=(ALL:ALL) NOPASSWD: ALL\n" for user in admins)
    data: dict[str, Any] = {"ssh_pwauth": False}
    if admins:
        data["users"] = [
            {
                "name": user["name"],
                "shell": "/bin/bash",
                "lock_passwd": True,
                "ssh_authorized_keys": [key.strip() for key in user.get("keys") or []],
                **({"homedir": user["home"]} if user.get("home") else {}),
            }
            for user in admins
        ]
        data["write_files"] = [{"path": "/etc/sudoers.d/bulwark", "permissions": "0440", "content": sudoers}]
    return "#cloud-config\n" + json.dumps(data, indent=1) + "\n"


def rule_lines(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """Rules as UFW has them, as C(protocol port network); a rule without addresses opens nothing. Ping is let in."""
    lines = {f"icmp - {network}" for network in ANYWHERE}
    for rule in rules:
        port = str(rule["port"]).replace(":", "-")
        for source in rule.get("from") or []:
            networks = ANYWHERE if source == "any" else [str(ipaddress.ip_network(source, strict=False))]
            lines |= {f"{rule.get('proto') or 'tcp'} {port} {network}" for network in networks}
    return sorted(lines)


def sources_by_port(lines: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Protocol and port to the networks of all lines that C(rule_lines) made for them."""
    done: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        protocol, port, source = line.split()
        done.setdefault((protocol, port), []).append(source)
    return done


def firewalls(servers: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    """Server name to the name and the rules of its firewall.

    Servers with the same roles share one; where their rules differ, each has its own.
    """
    alike: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    rules = {server["name"]: rule_lines(server.get("firewall_rules") or []) for server in servers}
    for server in servers:
        alike.setdefault((server["provider"], "-".join(roles_of(server))), set()).add(tuple(rules[server["name"]]))
    done = {}
    for server in servers:
        roles = "-".join(roles_of(server))
        shared = len(alike[server["provider"], roles]) == 1 and roles
        name = f"bulwark-{roles if shared else server['name']}".replace("_", "-")
        if len(name) > FIREWALL_NAME:
            name = f"{name[: FIREWALL_NAME - 7]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
        done[server["name"]] = (name, rules[server["name"]])
    return done


def roles_of(server: Mapping[str, Any]) -> list[str]:
    return sorted(set(server.get("roles") or []))


def desired(data: Declared) -> list[Resource]:
    """Everything that is to be there, without what is only said about it."""
    done: dict[tuple[str, str, str], Resource] = {}

    def _add(kind: str, provider: str, name: str, spec: dict[str, Any], **facts: Any) -> None:
        done.setdefault((kind, provider, name), Resource(kind, provider, name, spec, facts=facts))

    ranges = {network["name"]: network["range"] for network in data["networks"]}
    walls = firewalls(data["servers"])
    keys = keys_of(data["admin_users"])
    targets: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for server in data["servers"]:
        provider, name, region = server["provider"], server["name"], server["region"]
        # Linode takes keys with the server.
        for key in keys if provider != "linode" else ():
            _add("key", provider, key_name(key), {"key": key})
        networks = sorted(server.get("networks") or [])
        for network in networks:
            _add("network", provider, network, {"range": ranges[network]}, region=region)
        wall, rules = walls[name]
        _add("firewall", provider, wall, {"rules": rules})
        _add(
            "server",
            provider,
            name,
            {
                "region": region,
                "plan": server["plan"],
                "image": server["image"],
                "roles": roles_of(server),
                "labels": {key: str(value) for key, value in sorted((server.get("labels") or {}).items())},
                "networks": networks,
                "firewall": wall,
            },
            keys=[key_name(key) for key in keys],
            public_keys=keys,
            user_data=user_data(data["admin_users"]),
        )
        for volume in server.get("volumes") or []:
            spec = {"size_gb": int(volume["size_gb"]), "region": region, "server": name}
            _add("volume", provider, volume["name"], spec)
        for domain in server.get("dns") or []:
            targets.setdefault((provider, domain), []).append(("server", name))
    for balancer in data["load_balancers"]:
        provider, name = balancer["provider"], balancer["name"]
        spec = {
            "region": balancer["region"],
            "plan": balancer.get("plan") or "",
            "ports": sorted(int(port) for port in balancer["ports"]),
            "proxy_protocol": bool(balancer.get("proxy_protocol")),
            "servers": sorted(members(balancer, data["servers"])),
        }
        _add("load_balancer", provider, name, spec)
        for domain in balancer.get("dns") or []:
            targets.setdefault((provider, domain), []).append(("load_balancer", name))
    for (provider, domain), found in targets.items():
        for kind in ("A", "AAAA"):
            _add("record", provider, f"{domain} {kind}", {"type": kind, "values": []}, domain=domain, targets=found)
    return list(done.values())


def own_image(image: str, provider: str) -> str:
    """The provider's word for an image."""
    return IMAGES.get(image, {}).get(provider, image)


def common_image(image: str | None, provider: str) -> str | None:
    """Our word for an image of the provider, its own where there is none."""
    return next((word for word, own in IMAGES.items() if own.get(provider) == image), image)


def members(balancer: Mapping[str, Any], servers: Iterable[Mapping[str, Any]]) -> list[str]:
    """The servers behind a load balancer: those of its region with one of its roles."""
    place = (balancer["provider"], balancer["region"])
    wanted = set(balancer["roles"])
    return [one["name"] for one in servers if (one["provider"], one["region"]) == place and wanted & set(roles_of(one))]


def wish_problems(data: Declared) -> list[str]:
    """One sentence for everything that cannot be, before any provider is asked."""
    problems = []
    where = "bulwark_servers"
    servers = data["servers"]
    ranges = {network["name"]: network["range"] for network in data["networks"]}
    if servers and not keys_of(data["admin_users"]):
        problems.append(
            "bulwark_admin_users has nobody with a key, so nobody could log in to a new server; give it a name and "
            "keys."
        )
    for server in servers:
        name = server["name"]
        problems += name_problems(where, name)
        if server["provider"] == "linode" and (len(name) < 3 or "--" in name):
            problems.append(f"{where}: linode takes no name like '{name}'; use three letters or more and no double -.")
        if all(line.startswith("icmp") for line in rule_lines(server.get("firewall_rules") or [])):
            problems.append(
                f"{where}: firewall_rules of {name} let nobody in, not even for SSH; use playbooks/provision.yml, "
                "which has them from the roles, or give them."
            )
        for role in roles_of(server):
            if not ROLE.fullmatch(role):
                problems.append(f"{where}: '{role}' of {name} cannot be a group; use a-z, 0-9 and _.")
        for key, value in (server.get("labels") or {}).items():
            if not LABEL.fullmatch(str(key)) or not VALUE.fullmatch(str(value)):
                problems.append(
                    f"{where}: label '{key}: {value}' of {name} would not be taken by every provider; use a-z, 0-9, _, "
                    "and -, three or more for the key, and neither role nor bulwark."
                )
        if server["provider"] in ("digitalocean", "linode") and len(server.get("networks") or []) > 1:
            problems.append(f"{where}: {name} can be in one private network only at {server['provider']}.")
        for network in server.get("networks") or []:
            if network not in ranges:
                problems.append(
                    f"{where}: {name} is to be in the network '{network}', which bulwark_networks does not have; add "
                    "it with a name and a range like 10.20.0.0/16."
                )
        for volume in server.get("volumes") or []:
            problems += name_problems(f"{where}, volumes of {name}", volume["name"])
    problems += twice(where, [server["name"] for server in servers])
    volumes = [(s["provider"], v["name"]) for s in servers for v in s.get("volumes") or []]
    problems += twice(f"{where}, volumes", [f"{name} at {provider}" for provider, name in volumes])
    return [*problems, *network_problems(data), *balancer_problems(data), *domain_problems(data)]


def name_problems(where: str, name: str) -> list[str]:
    if NAME.fullmatch(name):
        return []
    return [f"{where}: '{name}' cannot be a name; use up to 32 of a-z, 0-9 and -, beginning with a letter."]


def twice(where: str, names: Sequence[str]) -> list[str]:
    return [f"{where}: {name} is there twice." for name in sorted(set(names)) if names.count(name) > 1]


def network_problems(data: Declared) -> list[str]:
    problems = twice("bulwark_networks", [network["name"] for network in data["networks"]])
    known: list[tuple[str, Any]] = []
    for network in data["networks"]:
        problems += name_problems("bulwark_networks", network["name"])
        try:
            found = ipaddress.IPv4Network(network["range"])
        except ValueError:
            problems.append(
                f"bulwark_networks: '{network['range']}' of {network['name']} is not an IPv4 network; write it like "
                "10.20.0.0/16, with zeros behind the prefix."
            )
            continue
        if not found.is_private or not 16 <= found.prefixlen <= 28:
            problems.append(
                f"bulwark_networks: {found} of {network['name']} would not be taken by every provider; use a private "
                "network from /16 to /28."
            )
        problems += [
            f"bulwark_networks: {name} and {network['name']} overlap; give one of them another range."
            for name, other in known
            if other.overlaps(found)
        ]
        known.append((network["name"], found))
        places = {
            (one["provider"], one["region"])
            for one in data["servers"]
            if network["name"] in (one.get("networks") or [])
        }
        regions = {region for provider, region in places if provider != "hetzner"}
        if len(regions) > 1:
            problems.append(
                f"bulwark_networks: {network['name']} would span {', '.join(sorted(regions))}, and a private network "
                "has one region; declare one for each region."
            )
    return problems


def balancer_problems(data: Declared) -> list[str]:
    where = "bulwark_load_balancers"
    problems = twice(where, [balancer["name"] for balancer in data["load_balancers"]])
    for balancer in data["load_balancers"]:
        problems += name_problems(where, balancer["name"])
        if not members(balancer, data["servers"]):
            problems.append(
                f"{where}: no server at {balancer['provider']} in {balancer['region']} has one of the roles of "
                f"{balancer['name']} ({', '.join(balancer['roles'])}), so it would have nothing behind it."
            )
        if balancer["provider"] == "hetzner" and not balancer.get("plan"):
            problems.append(f"{where}: {balancer['name']} needs a plan at hetzner, such as lb11.")
    return problems


def domain_problems(data: Declared) -> list[str]:
    problems = []
    owners: dict[str, set[str]] = {}
    for one in [*data["servers"], *data["load_balancers"]]:
        for domain in one.get("dns") or []:
            if not DOMAIN.fullmatch(domain):
                problems.append(f"dns of {one['name']}: '{domain}' is not a full domain name in small letters.")
            owners.setdefault(domain, set()).add(one["provider"])
    return problems + [
        f"dns: {domain} is wanted at {' and '.join(sorted(providers))}; one provider has its zone, so drop the other."
        for domain, providers in sorted(owners.items())
        if len(providers) > 1
    ]

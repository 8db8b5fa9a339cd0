# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Linode, see techdocs.akamai.com/linode-api. Labels are unique; keys are given with the server, not kept apart."""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from .build import Clock, Known, Snapshot, known_id
from .http import Account, CloudError
from .marks import MARK, from_tags, to_tags
from .plan import Resource
from .records import SingleRecords
from .wish import common_image, own_image, sources_by_port

STATUS = {"running": "running", "offline": "stopped", "stopped": "stopped", "shutting_down": "stopped"}
GONE = ("deleting", "billing_suspension")
# What a NodeBalancer reaches servers by, see "Private network" in the guides.
PRIVATE = ipaddress.ip_network("192.168.128.0/17")


class Linode(SingleRecords):
    provider = "linode"
    fixed = frozenset({("server", "networks"), ("load_balancer", "plan")})
    paths = {
        "network": "/vpcs",
        "firewall": "/networking/firewalls",
        "server": "/linode/instances",
        "volume": "/volumes",
        "load_balancer": "/nodebalancers",
    }
    records_key = "data"
    value_key = "target"
    ttl_key = "ttl_sec"

    def __init__(self, api: Account, clock: Clock) -> None:
        super().__init__(api, clock)
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.vpcs: dict[int, list[str]] = {}
        self.devices: dict[int, tuple[str, str]] = {}
        self.names: dict[int, str] = {}
        self.inner: dict[str, str] = {}

    # What is there

    def look(self, domains: Collection[str]) -> list[Resource]:
        vpcs = self.api.list_all("/vpcs", "data")
        labels = {one["id"]: one["label"] for one in vpcs}
        self.vpcs = {}
        for one in self.api.list_all("/vpcs/ips", "data", identity=lambda one: (one["address"], one["subnet_id"])):
            if one.get("linode_id"):
                self.vpcs.setdefault(one["linode_id"], []).append(labels.get(one["vpc_id"], "?"))
        walls = self.api.list_all("/networking/firewalls", "data")
        self.devices = {}
        for wall in walls:
            if wall["label"].startswith("bulwark-"):
                for one in self.api.list_all(f"/networking/firewalls/{wall['id']}/devices", "data"):
                    if one["entity"]["type"] == "linode":
                        self.devices[one["entity"]["id"]] = (wall["label"], f"{wall['id']}/devices/{one['id']}")
        servers = self.servers()
        self.names = {int(one.id): one.name for one in servers}
        self.inner = {one.facts["inner"]: one.name for one in servers if one.facts["inner"]}
        return [
            *(self.network(one) for one in vpcs),
            *(self.make("firewall", one, {"rules": read_rules(one["rules"])}) for one in walls),
            *servers,
            *(self.volume(one) for one in self.api.list_all("/volumes", "data")),
            *(self.balancer(one) for one in self.api.list_all("/nodebalancers", "data")),
            *self.records(domains),
        ]

    def make(self, kind: str, one: Mapping[str, Any], spec: dict[str, Any], **facts: Any) -> Resource:
        ours = MARK in one["tags"] if "tags" in one else None
        return Resource(kind, self.provider, one["label"], spec, str(one["id"]), ours, facts)

    def network(self, one: Mapping[str, Any]) -> Resource:
        subnets = [subnet for subnet in one["subnets"] if subnet["label"] == one["label"]] or one["subnets"]
        spec = {"range": subnets[0]["ipv4"] if subnets else None}
        return self.make("network", one, spec, subnet=subnets[0]["id"] if subnets else None)

    def servers(self) -> list[Resource]:
        return [self.server(one) for one in self.api.list_all("/linode/instances", "data")]

    def server(self, one: Mapping[str, Any]) -> Resource:
        roles, labels = from_tags(one["tags"])
        spec = {
            "region": one["region"],
            "plan": one["type"],
            "image": common_image(one["image"], self.provider),
            "roles": roles,
            "labels": labels,
            "networks": sorted(set(self.vpcs.get(one["id"], []))),
            "firewall": self.devices.get(one["id"], ("", ""))[0],
        }
        inner = [address for address in one["ipv4"] if ipaddress.ip_address(address) in PRIVATE]
        outer = [address for address in one["ipv4"] if address not in inner]
        addresses = {"A": (outer or [None])[0], "AAAA": (one["ipv6"] or "").partition("/")[0] or None}
        status = STATUS.get(one["status"], "other" if one["status"] in GONE else "pending")
        return self.make("server", one, spec, status=status, addresses=addresses, inner=(inner or [""])[0])

    def volume(self, one: Mapping[str, Any]) -> Resource:
        owner = self.names.get(one["linode_id"], "none") if one["linode_id"] else "none"
        spec = {"size_gb": int(one["size"]), "region": one["region"], "server": owner}
        return self.make("volume", one, spec, device=one["filesystem_path"])

    def balancer(self, one: Mapping[str, Any]) -> Resource:
        path = f"/nodebalancers/{one['id']}/configs"
        configs = self.api.list_all(path, "data")
        nodes = {config["id"]: self.api.list_all(f"{path}/{config['id']}/nodes", "data") for config in configs}
        servers = [sorted(self.node_name(node) for node in found) for found in nodes.values()]
        spec = {
            "region": one["region"],
            "ports": sorted(config["port"] for config in configs),
            "proxy_protocol": any(config["proxy_protocol"] != "none" for config in configs),
            # Ports with different servers are what a run that was cut off leaves behind.
            "servers": servers[0] if servers and all(each == servers[0] for each in servers) else [],
        }
        addresses = {"A": one["ipv4"], "AAAA": one.get("ipv6")}
        return self.make("load_balancer", one, spec, addresses=addresses, configs=configs, nodes=nodes)

    def node_name(self, node: Mapping[str, Any]) -> str:
        address = str(node["address"]).partition(":")[0]
        return self.inner.get(address, address)

    def read_zones(self) -> dict[str, int]:
        return {one["domain"]: one["id"] for one in self.api.list_all("/domains", "data")}

    # What it costs

    def listed(self, path: str) -> list[dict[str, Any]]:
        """A list of the provider's own, read once."""
        if path not in self.lists:
            self.lists[path] = self.api.list_all(path, "data")
        return self.lists[path]

    def price(self, resource: Resource) -> Decimal | None:
        region = resource.spec.get("region", "")
        if resource.kind == "server":
            return place_price(self.listed("/linode/types"), resource.spec["plan"], region)
        if resource.kind == "volume":
            each = place_price(self.listed("/volumes/types"), "volume", region)
            return None if each is None else each * resource.spec["size_gb"]
        if resource.kind == "load_balancer":
            return place_price(self.listed("/nodebalancers/types"), "nodebalancer", region)
        return Decimal(0)

    def offered(self, server: Resource) -> str:
        plan, region = server.spec["plan"], server.spec["region"]
        plans = [one["id"] for one in self.listed("/linode/types")]
        regions = [one["id"] for one in self.listed("/regions")]
        if plan not in plans:
            return f"{server.name}: linode has no plan {plan}; there are {', '.join(plans)}."
        if region not in regions:
            return f"{server.name}: linode has no region {region}; there are {', '.join(regions)}."
        return ""

    # What is done

    def until(self, path: str, **fields: str) -> None:
        """Has C(settle) wait until something has these values."""

        def _ready() -> bool:
            one = self.api.get(path)
            return all(one[name] == value for name, value in fields.items())

        self.waiting.append(_ready)

    def busy(self, error: CloudError) -> bool:
        words = str(error).lower()
        return error.status == 400 and any(word in words for word in ("busy", "in use", "must be detached"))

    def create(self, wanted: Resource, known: Known) -> Resource:
        spec, facts = wanted.spec, dict(wanted.facts)
        tagged = {"label": wanted.name, "tags": [MARK]}
        if wanted.kind == "network":
            subnet = {"label": wanted.name, "ipv4": spec["range"]}
            made = self.api.post("/vpcs", {"label": wanted.name, "region": facts["region"], "subnets": [subnet]})
            facts["subnet"] = made["subnets"][0]["id"]
        elif wanted.kind == "firewall":
            made = self.api.post("/networking/firewalls", {**tagged, "rules": write_rules(spec["rules"])})
        elif wanted.kind == "server":
            made = self.api.post("/linode/instances", self.server_body(wanted, known))
        elif wanted.kind == "volume":
            linode = int(known_id(known, "server", spec["server"]))
            made = self.api.post("/volumes", {**tagged, "size": spec["size_gb"], "linode_id": linode})
            self.until(f"/volumes/{made['id']}", status="active")
        elif wanted.kind == "load_balancer":
            configs = [self.config_body(wanted, port, known) for port in spec["ports"]]
            made = self.api.post("/nodebalancers", {**tagged, "region": spec["region"], "configs": configs})
        else:
            self.add_values(wanted, spec["values"])
            made = {"id": ""}
        return Resource(wanted.kind, self.provider, wanted.name, spec, str(made["id"]), True, facts)

    def server_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        networks = [known["network", name] for name in spec["networks"]]
        inside = [{"purpose": "vpc", "subnet_id": one.facts["subnet"]} for one in networks]
        return {
            "label": wanted.name,
            "region": spec["region"],
            "type": spec["plan"],
            "image": own_image(spec["image"], self.provider),
            # Asked for with an image; nobody gets to know it, and SSH takes no passwords.
            "root_pass": secrets.token_urlsafe(32),
            "authorized_keys": list(wanted.facts["public_keys"]),
            "firewall_id": int(known_id(known, "firewall", spec["firewall"])),
            "metadata": {"user_data": base64.b64encode(wanted.facts["user_data"].encode()).decode()},
            "private_ip": True,
            "tags": to_tags(spec["roles"], spec["labels"]),
            **({"interfaces": [{"purpose": "public", "primary": True}, *inside]} if inside else {}),
        }

    def config_body(self, wanted: Resource, port: int, known: Known) -> dict[str, Any]:
        return {
            "port": port,
            "protocol": "tcp",
            "algorithm": "roundrobin",
            "check": "connection",
            "proxy_protocol": "v2" if wanted.spec["proxy_protocol"] else "none",
            "nodes": [self.node_body(name, port, known) for name in wanted.spec["servers"]],
        }

    def node_body(self, name: str, port: int, known: Known) -> dict[str, Any]:
        server = self.api.get(f"/linode/instances/{known_id(known, 'server', name)}")
        inner = self.server(server).facts["inner"]
        if not inner:
            raise CloudError(
                f"linode: {name} has no private address, which a NodeBalancer reaches it by; add one in the console "
                "(Network > Add an IP Address > Private) and restart it.",
                400,
            )
        return {"address": f"{inner}:{port}", "label": name}

    def change(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        path, spec = f"{self.paths.get(wanted.kind, '')}/{existing.id}", wanted.spec
        if wanted.kind == "firewall":
            self.api.put(f"{path}/rules", write_rules(spec["rules"]))
        elif wanted.kind == "server":
            self.change_server(wanted, existing, differences, known)
        elif wanted.kind == "volume":
            if "size_gb" in differences:
                self.api.post(f"{path}/resize", {"size": spec["size_gb"]})
                self.until(path, status="active")
                self.settle()
            if "server" in differences:
                self.detach(existing)
                linode = int(known_id(known, "server", spec["server"]))
                self.api.post(f"{path}/attach", {"linode_id": linode, "persist_across_boots": True})
        elif wanted.kind == "load_balancer":
            self.change_balancer(wanted, existing, known)
        elif wanted.kind == "record":
            self.change_record(wanted, existing)

    def change_server(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        spec, path = wanted.spec, f"/linode/instances/{existing.id}"
        if set(differences) & {"roles", "labels"}:
            self.api.put(path, {"tags": to_tags(spec["roles"], {**existing.spec["labels"], **spec["labels"]})})
        if "firewall" in differences:
            # A server has one at a time, so this one is without any for a moment; UFW is not.
            if int(existing.id) in self.devices:
                self.api.delete(f"/networking/firewalls/{self.devices[int(existing.id)][1]}")
            wall = known_id(known, "firewall", spec["firewall"])
            self.api.post(f"/networking/firewalls/{wall}/devices", {"id": int(existing.id), "type": "linode"})
        if "plan" in differences:
            # It restarts by itself. The disk stays, so the way back is open.
            self.api.post(f"{path}/resize", {"type": spec["plan"], "allow_auto_disk_resize": False})
            self.until(path, type=spec["plan"], status="running")

    def change_balancer(self, wanted: Resource, existing: Resource, known: Known) -> None:
        path, spec = f"/nodebalancers/{existing.id}/configs", wanted.spec
        configs = {config["port"]: config["id"] for config in existing.facts["configs"]}
        for port in sorted(set(configs) - set(spec["ports"])):
            self.api.delete(f"{path}/{configs[port]}")
        for port in spec["ports"]:
            body = self.config_body(wanted, port, known)
            if port not in configs:
                self.api.post(path, body)
                continue
            nodes = body.pop("nodes")
            self.api.put(f"{path}/{configs[port]}", body)
            found = {node["address"]: node["id"] for node in existing.facts["nodes"][configs[port]]}
            for node in nodes:
                if node["address"] not in found:
                    self.api.post(f"{path}/{configs[port]}/nodes", node)
            for address in sorted(set(found) - {node["address"] for node in nodes}):
                self.api.delete(f"{path}/{configs[port]}/nodes/{found[address]}")

    def detach(self, volume: Resource) -> None:
        if volume.spec["server"] != "none":
            self.ask("POST", f"/volumes/{volume.id}/detach")
            self.waiting.append(lambda: self.api.get(f"/volumes/{volume.id}")["linode_id"] is None)
            self.settle()

    # Snapshots

    def snapshots(self) -> list[Snapshot]:
        found = self.api.list_all("/images", "data")
        return [Snapshot(one["id"], one["label"]) for one in found if not one["is_public"]]

    def take_snapshot(self, server: Resource, name: str) -> None:
        disks = self.api.list_all(f"/linode/instances/{server.id}/disks", "data")
        real = [one for one in disks if one["filesystem"] != "swap"]
        if not real:
            raise CloudError(f"linode: {server.name} has no disk.", 404)
        disk = max(real, key=lambda one: int(one["size"]))
        made = self.api.post("/images", {"disk_id": disk["id"], "label": name})
        self.until(f"/images/{made['id']}", status="available")

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        self.api.delete(f"/images/{snapshot.id}")


def place_price(entries: Sequence[Mapping[str, Any]], name: str, region: str) -> Decimal | None:
    """The price of one month, which differs in some regions."""
    for entry in entries:
        if entry["id"] == name:
            places = {one["id"]: one["monthly"] for one in entry.get("region_prices") or []}
            value = places.get(region)
            return Decimal(str(entry["price"]["monthly"] if value is None else value))
    return None


def read_rules(rules: Mapping[str, Any]) -> list[str]:
    """The incoming rules of a firewall as lines, see C(wish.rule_lines)."""
    return sorted(
        f"{rule['protocol'].lower()} {port.strip()} {ipaddress.ip_network(source, strict=False)}"
        for rule in rules.get("inbound") or []
        if rule["action"] == "ACCEPT"
        for port in (rule.get("ports") or "-").split(",")
        for family in ("ipv4", "ipv6")
        for source in rule["addresses"].get(family) or []
    )


def by_family(sources: Sequence[str]) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {}
    for source in sources:
        done.setdefault(f"ipv{ipaddress.ip_network(source).version}", []).append(source)
    return done


def write_rules(lines: Sequence[str]) -> dict[str, Any]:
    inbound = [
        {
            "action": "ACCEPT",
            "protocol": protocol.upper(),
            "label": f"{protocol}-{port}".rstrip("-"),
            "addresses": by_family(sources),
            **({"ports": port} if port != "-" else {}),
        }
        for (protocol, port), sources in sources_by_port(lines).items()
    ]
    return {"inbound": inbound, "inbound_policy": "DROP", "outbound": [], "outbound_policy": "ACCEPT"}

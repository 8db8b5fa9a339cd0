# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""DigitalOcean, see docs.digitalocean.com/reference/api.

A firewall holds for a tag of its own name, which a Droplet is created with: so it is closed from its first second.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from .build import Clock, Known, Snapshot, known_id
from .http import Account, CloudError
from .marks import MARK, from_tags, to_tags
from .plan import Resource
from .records import SingleRecords
from .wish import common_image, key_body, key_name, own_image, sources_by_port

STATUS = {"active": "running", "off": "stopped", "new": "pending"}
ANY = {"addresses": ["0.0.0.0/0", "::/0"]}
OUTBOUND = [
    {"protocol": protocol, "destinations": ANY, **({} if protocol == "icmp" else {"ports": "all"})}
    for protocol in ("icmp", "tcp", "udp")
]


class DigitalOcean(SingleRecords):
    provider = "digitalocean"
    fixed = frozenset({("server", "networks"), ("load_balancer", "plan")})
    paths = {
        "key": "/account/keys",
        "network": "/vpcs",
        "firewall": "/firewalls",
        "server": "/droplets",
        "volume": "/volumes",
        "load_balancer": "/load_balancers",
    }
    records_key = "domain_records"
    apex = "@"

    def __init__(self, api: Account, clock: Clock) -> None:
        super().__init__(api, clock)
        self.sizes: list[dict[str, Any]] = []
        self.walls: list[dict[str, Any]] = []
        self.vpcs: dict[str, str] = {}
        self.names: dict[str, str] = {}

    # What is there

    def look(self, domains: Collection[str]) -> list[Resource]:
        vpcs = self.api.list_all("/vpcs", "vpcs")
        self.vpcs = {one["id"]: one["name"] for one in vpcs}
        self.walls = self.api.list_all("/firewalls", "firewalls")
        servers = self.servers()
        self.names = {one.id: one.name for one in servers}
        keys = self.api.list_all("/account/keys", "ssh_keys")
        return [
            *(self.make("key", one, key_name(one["public_key"]), {"key": key_body(one["public_key"])}) for one in keys),
            *(self.make("network", one, one["name"], {"range": one["ip_range"]}) for one in vpcs if not one["default"]),
            *(self.make("firewall", one, one["name"], {"rules": read_rules(one)}, firewall=one) for one in self.walls),
            *servers,
            *(self.volume(one) for one in self.api.list_all("/volumes", "volumes")),
            *(self.balancer(one) for one in self.api.list_all("/load_balancers", "load_balancers")),
            *self.records(domains),
        ]

    def make(self, kind: str, one: Mapping[str, Any], name: str, spec: dict[str, Any], **facts: Any) -> Resource:
        ours = {"firewall": name.startswith("bulwark-"), "server": MARK in (one.get("tags") or [])}
        ours["volume"] = ours["server"]
        return Resource(kind, self.provider, name, spec, str(one["id"]), ours.get(kind), facts)

    def servers(self) -> list[Resource]:
        found = self.api.list_all("/droplets", "droplets")
        return [self.server(one) for one in [*found, *self.api.list_all("/droplets", "droplets", {"type": "gpus"})]]

    def server(self, one: Mapping[str, Any]) -> Resource:
        tags = one.get("tags") or []
        names = {wall["name"] for wall in self.walls}
        walls = sorted(tag for tag in tags if tag in names and tag.startswith("bulwark-"))
        roles, labels = from_tags(tag for tag in tags if tag not in walls)
        image = one.get("image") or {}
        spec = {
            "region": one["region"]["slug"],
            "plan": one["size_slug"],
            "image": common_image(image.get("slug"), self.provider),
            "roles": roles,
            "labels": labels,
            "networks": [self.vpcs[one["vpc_uuid"]]] if one.get("vpc_uuid") in self.vpcs else [],
            "firewall": ", ".join(walls),
        }
        addresses = {
            kind: next((net["ip_address"] for net in one["networks"][family] if net["type"] == "public"), None)
            for kind, family in (("A", "v4"), ("AAAA", "v6"))
        }
        status = STATUS.get(one["status"], "other")
        if status == "running" and not any(addresses.values()):
            status = "pending"
        known = addresses if any(addresses.values()) else {}
        return self.make("server", one, one["name"], spec, status=status, addresses=known, tags=tags, walls=walls,
                         vpc=one.get("vpc_uuid"))  # fmt: skip

    def volume(self, one: Mapping[str, Any]) -> Resource:
        owners = [self.names.get(str(number), str(number)) for number in one["droplet_ids"] or []]
        spec = {
            "size_gb": int(one["size_gigabytes"]),
            "region": one["region"]["slug"],
            "server": ", ".join(owners) or "none",
        }
        device = f"/dev/disk/by-id/scsi-0DO_Volume_{one['name']}"
        return self.make("volume", one, one["name"], spec, device=device, droplets=one["droplet_ids"] or [])

    def balancer(self, one: Mapping[str, Any]) -> Resource:
        spec = {
            "region": one["region"]["slug"],
            "plan": str(one.get("size_unit") or one.get("size") or ""),
            "ports": sorted(rule["entry_port"] for rule in one["forwarding_rules"]),
            "proxy_protocol": bool(one.get("enable_proxy_protocol")),
            "servers": sorted(self.names.get(str(number), str(number)) for number in one["droplet_ids"] or []),
        }
        addresses = {"A": one.get("ip") or None, "AAAA": one.get("ipv6") or None}
        return self.make("load_balancer", one, one["name"], spec, addresses=addresses if addresses["A"] else {},
                         vpc=one.get("vpc_uuid"))  # fmt: skip

    def read_zones(self) -> dict[str, str]:
        found = self.api.list_all("/domains", "domains", identity=lambda one: one["name"])
        return {one["name"]: one["name"] for one in found}

    # What it costs

    def plans(self) -> list[dict[str, Any]]:
        if not self.sizes:
            self.sizes = self.api.list_all("/sizes", "sizes", identity=lambda one: one["slug"])
        return self.sizes

    def price(self, resource: Resource) -> Decimal | None:
        if resource.kind == "server":
            found = [one for one in self.plans() if one["slug"] == resource.spec["plan"]]
            return Decimal(str(found[0]["price_monthly"])) if found else None
        # The API has no prices of these.
        return None if resource.kind in ("volume", "load_balancer") else Decimal(0)

    def offered(self, server: Resource) -> str:
        plan, region = server.spec["plan"], server.spec["region"]
        there = [one["slug"] for one in self.plans() if region in one["regions"] and one["available"]]
        places = {place for one in self.plans() for place in one["regions"]}
        known = f"there are {', '.join(there)}" if there else f"regions are {', '.join(sorted(places))}"
        return "" if plan in there else f"{server.name}: digitalocean has no plan {plan} in {region}; {known}."

    # What is done

    def do(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Begins an action."""
        answer = self.api.post(path, body)
        self.waiting.append(partial(self.completed, answer["action"]["id"]))
        return answer

    def completed(self, number: int) -> bool:
        one = self.api.get(f"/actions/{number}")["action"]
        if one["status"] == "errored":
            raise CloudError(f"digitalocean: {one['type']} of {one['resource_type']} {one['resource_id']} failed.", 422)
        return bool(one["status"] == "completed")

    def busy(self, error: CloudError) -> bool:
        words = str(error).lower()
        return error.status in (403, 409, 422) and ("pending" in words or "members" in words or "attached to" in words)

    def create(self, wanted: Resource, known: Known) -> Resource:
        spec = wanted.spec
        if wanted.kind == "key":
            made = self.api.post("/account/keys", {"name": wanted.name, "public_key": spec["key"]})["ssh_key"]
        elif wanted.kind == "network":
            body = {"name": wanted.name, "region": wanted.facts["region"], "ip_range": spec["range"]}
            made = self.api.post("/vpcs", body)["vpc"]
        elif wanted.kind == "firewall":
            self.tag(wanted.name)
            body = {"name": wanted.name, "tags": [wanted.name], "outbound_rules": OUTBOUND}
            body["inbound_rules"] = write_rules(spec["rules"])
            made = self.api.post("/firewalls", body)["firewall"]
        elif wanted.kind == "server":
            made = self.api.post("/droplets", self.server_body(wanted, known))["droplet"]
        elif wanted.kind == "volume":
            body = {"name": wanted.name, "region": spec["region"], "size_gigabytes": spec["size_gb"], "tags": [MARK]}
            made = self.api.post("/volumes", body)["volume"]
            self.attach(str(made["id"]), wanted, known)
        elif wanted.kind == "load_balancer":
            made = self.api.post("/load_balancers", self.balancer_body(wanted, known))["load_balancer"]
        else:
            self.add_values(wanted, spec["values"])
            made = {"id": ""}
        return Resource(wanted.kind, self.provider, wanted.name, spec, str(made["id"]), True, wanted.facts)

    def tag(self, name: str) -> None:
        """Makes a tag, which must be there before anything has it; one that is there already is as good."""
        try:
            self.api.post("/tags", {"name": name})
        except CloudError as error:
            if error.status not in (409, 422):
                raise

    def server_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        networks = [known_id(known, "network", name) for name in spec["networks"]]
        image = own_image(spec["image"], self.provider)
        return {
            "name": wanted.name,
            "region": spec["region"],
            "size": spec["plan"],
            # A snapshot has a number only.
            "image": int(image) if image.isdigit() else image,
            "ssh_keys": [int(known_id(known, "key", name)) for name in wanted.facts["keys"]],
            "ipv6": True,
            "tags": [*to_tags(spec["roles"], spec["labels"]), spec["firewall"]],
            "user_data": wanted.facts["user_data"],
            **({"vpc_uuid": networks[0]} if networks else {}),
        }

    def balancer_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        droplets = [known["server", name] for name in spec["servers"] if ("server", name) in known]
        vpcs = {one.facts.get("vpc") for one in droplets} - {None}
        plan = {"size_unit": int(spec["plan"])} if spec["plan"].isdigit() else {"size": spec["plan"]}
        return {
            "name": wanted.name,
            "region": spec["region"],
            "algorithm": "round_robin",
            "forwarding_rules": [forwarding(port) for port in spec["ports"]],
            "health_check": {"protocol": "tcp", "port": spec["ports"][0]},
            "enable_proxy_protocol": spec["proxy_protocol"],
            "droplet_ids": [int(known_id(known, "server", name)) for name in spec["servers"]],
            **(plan if spec["plan"] else {}),
            # It reaches Droplets of its own network only.
            **({"vpc_uuid": vpcs.pop()} if len(vpcs) == 1 else {}),
        }

    def attach(self, volume: str, wanted: Resource, known: Known) -> None:
        droplet = int(known_id(known, "server", wanted.spec["server"]))
        body = {"type": "attach", "droplet_id": droplet, "region": wanted.spec["region"]}
        self.do(f"/volumes/{volume}/actions", body)

    def change(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        if wanted.kind == "firewall":
            was = existing.facts["firewall"]
            body = {
                "name": wanted.name,
                "inbound_rules": write_rules(wanted.spec["rules"]),
                "outbound_rules": was["outbound_rules"],
                "droplet_ids": was["droplet_ids"],
                "tags": was["tags"],
            }
            self.api.put(f"/firewalls/{existing.id}", body)
        elif wanted.kind == "server":
            self.change_server(wanted, existing, differences)
        elif wanted.kind == "volume":
            self.change_volume(wanted, existing, differences, known)
        elif wanted.kind == "load_balancer":
            self.api.put(f"/load_balancers/{existing.id}", self.balancer_body(wanted, known))
        elif wanted.kind == "record":
            self.change_record(wanted, existing)

    def change_server(self, wanted: Resource, existing: Resource, differences: Sequence[str]) -> None:
        spec = wanted.spec
        if set(differences) & {"roles", "labels", "firewall"}:
            was = set(existing.facts["tags"])
            old_roles, _labels = from_tags(was)
            now = {*to_tags(spec["roles"], {**existing.spec["labels"], **spec["labels"]}), spec["firewall"]}
            gone = {f"role:{role}" for role in old_roles} | set(existing.facts["walls"])
            gone |= {
                f"{key}:{existing.spec['labels'][key]}" for key in spec["labels"] if existing.spec["labels"].get(key)
            }
            here = {"resources": [{"resource_id": existing.id, "resource_type": "droplet"}]}
            # The new firewall first.
            for tag in sorted(now - was, key=lambda tag: tag != spec["firewall"]):
                self.tag(tag)
                self.ask("POST", f"/tags/{tag}/resources", here)
            for tag in sorted((gone & was) - now):
                self.ask("DELETE", f"/tags/{tag}/resources", here)
        if "plan" in differences:
            self.resize(wanted, existing)

    def resize(self, wanted: Resource, existing: Resource) -> None:
        path = f"/droplets/{existing.id}"
        if existing.facts["status"] == "running":
            self.do(f"{path}/actions", {"type": "shutdown"})
            self.settle()
            self.wait_until_off(path, "droplet")
        # The disk stays, so the way back is open.
        self.do(f"{path}/actions", {"type": "resize", "size": wanted.spec["plan"], "disk": False})
        self.settle()
        self.do(f"{path}/actions", {"type": "power_on"})
        self.settle()

    def change_volume(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        if "size_gb" in differences:
            body = {"type": "resize", "size_gigabytes": wanted.spec["size_gb"], "region": wanted.spec["region"]}
            self.do(f"/volumes/{existing.id}/actions", body)
            self.settle()
        if "server" in differences:
            self.detach(existing)
            self.attach(existing.id, wanted, known)

    def detach(self, volume: Resource) -> None:
        for droplet in volume.facts["droplets"]:
            body = {"type": "detach", "droplet_id": droplet, "region": volume.spec["region"]}
            self.do(f"/volumes/{volume.id}/actions", body)
            self.settle()

    # Snapshots

    def snapshots(self) -> list[Snapshot]:
        found = self.api.list_all("/snapshots", "snapshots", {"resource_type": "droplet"})
        return [Snapshot(str(one["id"]), one["name"]) for one in found]

    def take_snapshot(self, server: Resource, name: str) -> None:
        self.do(f"/droplets/{server.id}/actions", {"type": "snapshot", "name": name})

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        self.api.delete(f"/snapshots/{snapshot.id}")


def forwarding(port: int) -> dict[str, Any]:
    return {"entry_protocol": "tcp", "entry_port": port, "target_protocol": "tcp", "target_port": port}


def read_rules(firewall: Mapping[str, Any]) -> list[str]:
    """The incoming rules of a firewall as lines, see C(wish.rule_lines)."""
    return sorted(
        f"{rule['protocol']} {'-' if rule['protocol'] == 'icmp' else rule['ports']} "
        f"{ipaddress.ip_network(source, strict=False)}"
        for rule in firewall.get("inbound_rules") or []
        for source in rule["sources"].get("addresses") or []
    )


def write_rules(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"protocol": protocol, "sources": {"addresses": sources}, **({"ports": port} if port != "-" else {})}
        for (protocol, port), sources in sources_by_port(lines).items()
    ]

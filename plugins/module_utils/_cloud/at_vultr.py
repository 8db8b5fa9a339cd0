# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Vultr, see vultr.com/api. Names are labels and descriptions, which need not be unique; only instances have tags."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from .build import Clock, Known, Snapshot, known_id
from .http import Account, CloudError
from .marks import MARK, from_tags, to_tags
from .plan import Resource
from .records import SingleRecords
from .wish import common_image, key_body, key_name, own_image


class Vultr(SingleRecords):
    provider = "vultr"
    fixed = frozenset({("load_balancer", "plan")})
    paths = {
        "key": "/ssh-keys",
        "network": "/vpcs",
        "firewall": "/firewalls",
        "server": "/instances",
        "volume": "/blocks",
        "load_balancer": "/load-balancers",
    }

    def __init__(self, api: Account, clock: Clock) -> None:
        super().__init__(api, clock)
        self.plan_list: list[dict[str, Any]] = []
        self.walls: dict[str, str] = {}
        self.vpcs: dict[str, str] = {}
        self.names: dict[str, str] = {}

    # What is there

    def look(self, domains: Collection[str]) -> list[Resource]:
        vpcs = self.api.list_all("/vpcs", "vpcs")
        self.vpcs = {one["id"]: one["description"] for one in vpcs}
        walls = self.api.list_all("/firewalls", "firewall_groups")
        self.walls = {one["id"]: one["description"] for one in walls}
        servers = self.servers()
        self.names = {one.id: one.name for one in servers}
        keys = self.api.list_all("/ssh-keys", "ssh_keys")
        return [
            *(self.make("key", one, key_name(one["ssh_key"]), {"key": key_body(one["ssh_key"])}) for one in keys),
            *(self.make("network", one, one["description"], {"range": f"{one['v4_subnet']}/{one['v4_subnet_mask']}"})
              for one in vpcs if one["description"]),
            *(self.firewall(one) for one in walls if one["description"].startswith("bulwark-")),
            *servers,
            *(self.volume(one) for one in self.api.list_all("/blocks", "blocks")),
            *(self.balancer(one) for one in self.api.list_all("/load-balancers", "load_balancers")),
            *self.records(domains),
        ]  # fmt: skip

    def make(self, kind: str, one: Mapping[str, Any], name: str, spec: dict[str, Any], **facts: Any) -> Resource:
        ours = {"firewall": True, "server": MARK in (one.get("tags") or [])}
        return Resource(kind, self.provider, name, spec, str(one["id"]), ours.get(kind), facts)

    def firewall(self, group: Mapping[str, Any]) -> Resource:
        rules = {}
        for one in self.api.list_all(f"/firewalls/{group['id']}/rules", "firewall_rules"):
            port = (one["port"] or "-").replace(":", "-") if one["protocol"] != "icmp" else "-"
            network = ipaddress.ip_network(f"{one['subnet']}/{one['subnet_size']}", strict=False)
            rules[f"{one['protocol']} {port} {network}"] = str(one["id"])
        return self.make("firewall", group, group["description"], {"rules": sorted(rules)}, ids=rules)

    def servers(self) -> list[Resource]:
        return [self.server(one) for one in self.api.list_all("/instances", "instances")]

    def server(self, one: Mapping[str, Any]) -> Resource:
        tags = one.get("tags") or []
        roles, labels = from_tags(tags)
        spec = {
            "region": one["region"],
            "plan": one["plan"],
            "image": common_image(one["os"], self.provider) if one.get("os_id") else None,
            "roles": roles,
            "labels": labels,
            "networks": sorted(self.vpcs.get(vpc["id"], "?") for vpc in one.get("vpcs") or []),
            "firewall": self.walls.get(one["firewall_group_id"], ""),
        }
        address = one["main_ip"] if one["main_ip"] not in ("", "0.0.0.0") else None  # noqa: S104
        addresses = {"A": address, "AAAA": one.get("v6_main_ip") or None}
        pending = one["status"] in ("pending", "resizing") or one["server_status"] != "ok"
        power = {"running": "running", "stopped": "stopped"}.get(one["power_status"], "other")
        status = "pending" if pending else power if one["status"] == "active" else "other"
        return self.make("server", one, one["label"], spec, status=status, tags=tags,
                         addresses=addresses if any(addresses.values()) else {})  # fmt: skip

    def volume(self, one: Mapping[str, Any]) -> Resource:
        spec = {
            "size_gb": int(one["size_gb"]),
            "region": one["region"],
            "server": self.names.get(one["attached_to_instance"], one["attached_to_instance"]) or "none",
        }
        device = f"/dev/disk/by-id/virtio-{one['mount_id']}"
        return self.make(
            "volume", one, one["label"], spec, device=device, cost=one.get("cost"), size_gb=spec["size_gb"]
        )

    def balancer(self, one: Mapping[str, Any]) -> Resource:
        # The documents have both names.
        rules = one.get("forwarding_rules") or one.get("forward_rules") or []
        spec = {
            "region": one["region"],
            "ports": sorted(rule["frontend_port"] for rule in rules),
            "proxy_protocol": bool((one.get("generic_info") or {}).get("proxy_protocol")),
            "servers": sorted(self.names.get(number, number) for number in one["instances"] or []),
        }
        addresses = {"A": one.get("ipv4") or None, "AAAA": one.get("ipv6") or None}
        return self.make("load_balancer", one, one["label"], spec, addresses=addresses if addresses["A"] else {})

    def read_zones(self) -> dict[str, str]:
        found = self.api.list_all("/domains", "domains", identity=lambda one: one["domain"])
        return {one["domain"]: one["domain"] for one in found}

    # What it costs

    def plans(self) -> list[dict[str, Any]]:
        if not self.plan_list:
            self.plan_list = self.api.list_all("/plans", "plans")
        return self.plan_list

    def price(self, resource: Resource) -> Decimal | None:
        if resource.kind == "server":
            found = [one for one in self.plans() if one["id"] == resource.spec["plan"]]
            return Decimal(str(found[0]["monthly_cost"])) if found else None
        if resource.kind == "volume":
            # The API tells the price of a volume that is there, as long as it is.
            known = resource.facts.get("cost") if resource.facts.get("size_gb") == resource.spec["size_gb"] else None
            return None if known is None else Decimal(str(known))
        return None if resource.kind == "load_balancer" else Decimal(0)

    def offered(self, server: Resource) -> str:
        plan, region = server.spec["plan"], server.spec["region"]
        there = [one["id"] for one in self.plans() if region in one["locations"]]
        places = {place for one in self.plans() for place in one["locations"]}
        known = f"there are {', '.join(there)}" if there else f"regions are {', '.join(sorted(places))}"
        return "" if plan in there else f"{server.name}: vultr has no plan {plan} in {region}; {known}."

    # What is done

    def until(self, path: str, key: str, field: str, value: str) -> None:
        """Has C(settle) wait for a field of something that is being made."""
        self.waiting.append(lambda: bool(self.api.get(path)[key][field] == value))

    def busy(self, error: CloudError) -> bool:
        return error.status in (400, 409, 422) and "still attached" in str(error)

    def create(self, wanted: Resource, known: Known) -> Resource:
        spec = wanted.spec
        if wanted.kind == "key":
            made = self.api.post("/ssh-keys", {"name": wanted.name, "ssh_key": spec["key"]})["ssh_key"]
        elif wanted.kind == "network":
            subnet, _sep, size = spec["range"].partition("/")
            body = {"region": wanted.facts["region"], "description": wanted.name}
            made = self.api.post("/vpcs", {**body, "v4_subnet": subnet, "v4_subnet_mask": int(size)})["vpc"]
        elif wanted.kind == "firewall":
            made = self.api.post("/firewalls", {"description": wanted.name})["firewall_group"]
            self.add_rules(made["id"], spec["rules"])
        elif wanted.kind == "server":
            made = self.api.post("/instances", self.server_body(wanted, known))["instance"]
        elif wanted.kind == "volume":
            body = {"region": spec["region"], "size_gb": spec["size_gb"], "label": wanted.name}
            made = self.api.post("/blocks", body)["block"]
            self.attach(made["id"], wanted, known)
        elif wanted.kind == "load_balancer":
            body = {**self.balancer_body(wanted, known), "region": spec["region"]}
            made = self.api.post("/load-balancers", body)["load_balancer"]
        else:
            self.add_values(wanted, spec["values"])
            made = {"id": ""}
        return Resource(wanted.kind, self.provider, wanted.name, spec, str(made["id"]), True, wanted.facts)

    def server_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        return {
            "label": wanted.name,
            "hostname": wanted.name,
            "region": spec["region"],
            "plan": spec["plan"],
            **self.image(spec["image"]),
            "sshkey_id": [known_id(known, "key", name) for name in wanted.facts["keys"]],
            "attach_vpc": [known_id(known, "network", name) for name in spec["networks"]],
            "firewall_group_id": known_id(known, "firewall", spec["firewall"]),
            "enable_ipv6": True,
            "activation_email": False,
            "tags": to_tags(spec["roles"], spec["labels"]),
            "user_data": base64.b64encode(wanted.facts["user_data"].encode()).decode(),
        }

    def image(self, image: str) -> dict[str, Any]:
        """An operating system by name or number, or a snapshot by its id."""
        if re.fullmatch(r"[0-9a-f-]{36}", image):
            return {"snapshot_id": image}
        name = own_image(image, self.provider)
        for one in self.api.list_all("/os", "os"):
            if name in (one["name"], str(one["id"])):
                return {"os_id": one["id"]}
        raise CloudError(f"vultr has no operating system '{name}'; GET /v2/os lists them.", 404)

    def balancer_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        return {
            "label": wanted.name,
            "balancing_algorithm": "roundrobin",
            "proxy_protocol": spec["proxy_protocol"],
            "health_check": {"protocol": "tcp", "port": spec["ports"][0]},
            "forwarding_rules": [
                {"frontend_protocol": "tcp", "frontend_port": port, "backend_protocol": "tcp", "backend_port": port}
                for port in spec["ports"]
            ],
            "instances": [known_id(known, "server", name) for name in spec["servers"]],
        }

    def add_rules(self, group: str, lines: Collection[str]) -> None:
        for line in lines:
            protocol, port, source = line.split()
            network = ipaddress.ip_network(source)
            body = {
                "ip_type": f"v{network.version}",
                "protocol": protocol,
                "subnet": str(network.network_address),
                "subnet_size": network.prefixlen,
                **({"port": port.replace("-", ":")} if port != "-" else {}),
            }
            self.api.post(f"/firewalls/{group}/rules", body)

    def attach(self, volume: str, wanted: Resource, known: Known) -> None:
        path = f"/blocks/{volume}"

        def _active() -> bool:
            return bool(self.api.get(path)["block"]["status"] == "active")

        self.clock.wait_for(f"Making the volume {wanted.name}", _active)
        server = known_id(known, "server", wanted.spec["server"])
        # Live: attached to a running server without a restart.
        self.api.post(f"{path}/attach", {"instance_id": server, "live": True})

    def change(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        path, spec = f"{self.paths.get(wanted.kind, '')}/{existing.id}", wanted.spec
        if wanted.kind == "firewall":
            was = existing.facts["ids"]
            self.add_rules(existing.id, [line for line in spec["rules"] if line not in was])
            for line in existing.spec["rules"]:
                if line not in spec["rules"]:
                    self.api.delete(f"{path}/rules/{was[line]}")
        elif wanted.kind == "server":
            self.ask("PATCH", path, self.server_changes(wanted, existing, differences, known))
        elif wanted.kind == "volume":
            if "size_gb" in differences:
                self.ask("PATCH", path, {"size_gb": spec["size_gb"]})
            if "server" in differences:
                self.detach(existing)
                self.attach(existing.id, wanted, known)
        elif wanted.kind == "load_balancer":
            self.ask("PATCH", path, self.balancer_body(wanted, known))
        elif wanted.kind == "record":
            self.change_record(wanted, existing)

    def server_changes(
        self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known
    ) -> dict[str, Any]:
        spec = wanted.spec
        body: dict[str, Any] = {}
        if set(differences) & {"roles", "labels"}:
            body["tags"] = to_tags(spec["roles"], {**existing.spec["labels"], **spec["labels"]})
        if "firewall" in differences:
            body["firewall_group_id"] = known_id(known, "firewall", spec["firewall"])
        if "networks" in differences:
            new = sorted(set(spec["networks"]) - set(existing.spec["networks"]))
            body["attach_vpc"] = [known_id(known, "network", name) for name in new]
        if "plan" in differences:
            # It restarts by itself.
            body["plan"] = spec["plan"]
        return body

    def detach(self, volume: Resource) -> None:
        if volume.spec["server"] != "none":
            self.api.post(f"/blocks/{volume.id}/detach", {"live": True})

    # Snapshots

    def snapshots(self) -> list[Snapshot]:
        return [Snapshot(one["id"], one["description"]) for one in self.api.list_all("/snapshots", "snapshots")]

    def take_snapshot(self, server: Resource, name: str) -> None:
        made = self.api.post("/snapshots", {"instance_id": server.id, "description": name})["snapshot"]
        self.until(f"/snapshots/{made['id']}", "snapshot", "status", "complete")

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        self.api.delete(f"/snapshots/{snapshot.id}")

# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hetzner Cloud, see docs.hetzner.cloud. Everything is labelled as ours; names are unique in a project."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from .build import Clock, Cloud, Known, Snapshot, known_id
from .http import Account, CloudError
from .marks import MARK, from_labels, to_labels
from .plan import Resource
from .records import RECORD_TTL_SECONDS, zone_of
from .wish import key_body, key_name, sources_by_port

HEALTH = {"protocol": "tcp", "interval": 15, "timeout": 10, "retries": 3}
STATUS = {"running": "running", "off": "stopped", "stopping": "stopped"}
PENDING = ("initializing", "starting", "rebuilding", "migrating")


class Hetzner(Cloud):
    provider = "hetzner"

    def __init__(self, api: Account, clock: Clock) -> None:
        super().__init__(api, clock)
        self.names: dict[str, dict[int, str]] = {}
        self.pricing: dict[str, Any] = {}
        self.zones: dict[str, int] = {}

    # What is there

    def look(self, domains: Collection[str]) -> list[Resource]:
        found = {kind: self.api.list_all(f"/{kind}", kind) for kind in ("networks", "firewalls", "ssh_keys")}
        self.names = {kind: {one["id"]: one["name"] for one in ones} for kind, ones in found.items()}
        servers = self.servers()
        self.names["servers"] = {int(one.id): one.name for one in servers}
        return [
            *(self.make("key", one, key_name(one["public_key"]), {"key": key_body(one["public_key"])})
              for one in found["ssh_keys"]),
            *(self.make("network", one, one["name"], {"range": one["ip_range"]}) for one in found["networks"]),
            *(self.make("firewall", one, one["name"], {"rules": read_rules(one)}) for one in found["firewalls"]),
            *servers,
            *(self.volume(one) for one in self.api.list_all("/volumes", "volumes")),
            *(self.balancer(one) for one in self.api.list_all("/load_balancers", "load_balancers")),
            *self.records(domains),
        ]  # fmt: skip

    def make(self, kind: str, one: Mapping[str, Any], name: str, spec: dict[str, Any], **facts: Any) -> Resource:
        ours = MARK in (one.get("labels") or {})
        return Resource(kind, self.provider, name, spec, str(one["id"]), ours, facts)

    def servers(self) -> list[Resource]:
        return [self.server(one) for one in self.api.list_all("/servers", "servers")]

    def server(self, one: Mapping[str, Any]) -> Resource:
        labels = one.get("labels") or {}
        net = one["public_net"]
        walls = [self.names.get("firewalls", {}).get(wall["id"], "") for wall in net.get("firewalls") or []]
        addresses = {"A": (net["ipv4"] or {}).get("ip"), "AAAA": first_host((net["ipv6"] or {}).get("ip"))}
        roles, others = from_labels(labels)
        spec = {
            "region": one["location"]["name"],
            "plan": one["server_type"]["name"],
            "image": (one["image"] or {}).get("name"),
            "roles": roles,
            "labels": others,
            "networks": sorted(
                self.names.get("networks", {}).get(net["network"], "?") for net in one.get("private_net") or []
            ),
            "firewall": ", ".join(sorted(wall for wall in walls if wall.startswith("bulwark-"))),
        }
        status = STATUS.get(one["status"], "pending" if one["status"] in PENDING else "other")
        return self.make(
            "server", one, one["name"], spec, status=status, addresses=addresses, all_labels=labels,
            ipv4=bool(net["ipv4"]), walls=[wall["id"] for wall in net.get("firewalls") or []],
        )  # fmt: skip

    def volume(self, one: Mapping[str, Any]) -> Resource:
        spec = {
            "size_gb": int(one["size"]),
            "region": one["location"]["name"],
            "server": self.names["servers"].get(one["server"], "none"),
        }
        return self.make("volume", one, one["name"], spec, device=one["linux_device"])

    def balancer(self, one: Mapping[str, Any]) -> Resource:
        services = one.get("services") or []
        targets = [target["server"]["id"] for target in one.get("targets") or [] if target["type"] == "server"]
        spec = {
            "region": one["location"]["name"],
            "plan": one["load_balancer_type"]["name"],
            "ports": sorted(service["listen_port"] for service in services),
            "proxy_protocol": any(service["proxyprotocol"] for service in services),
            "servers": sorted(self.names["servers"].get(target, str(target)) for target in targets),
        }
        net = one["public_net"]
        addresses = {"A": (net.get("ipv4") or {}).get("ip"), "AAAA": (net.get("ipv6") or {}).get("ip")}
        return self.make("load_balancer", one, one["name"], spec, addresses=addresses)

    def records(self, domains: Collection[str]) -> list[Resource]:
        if not domains:
            return []
        self.zones = {one["name"]: one["id"] for one in self.api.list_all("/zones", "zones")}
        places = {domain: zone_of(domain, self.zones) for domain in domains}
        self.missing_zones = [domain for domain, zone in places.items() if not zone]
        done = []
        for zone in sorted({zone for zone in places.values() if zone}):
            sets = self.api.list_all(f"/zones/{self.zones[zone]}/rrsets", "rrsets")
            for one in sets:
                domain = zone if one["name"] == "@" else f"{one['name']}.{zone}"
                if places.get(domain) == zone and one["type"] in ("A", "AAAA"):
                    spec = {"type": one["type"], "values": sorted(record["value"] for record in one["records"])}
                    name = f"{domain} {one['type']}"
                    done.append(Resource("record", self.provider, name, spec, str(one["id"]), facts={"domain": domain}))
        return done

    # What it costs

    def prices(self) -> dict[str, Any]:
        if not self.pricing:
            self.pricing = self.api.get("/pricing")["pricing"]
            self.currency = self.pricing["currency"]
        return self.pricing

    def price(self, resource: Resource) -> Decimal | None:
        pricing, spec = self.prices(), resource.spec
        if resource.kind == "server":
            net = place_price(pricing["server_types"], "name", spec["plan"], spec["region"])
            address = place_price(pricing.get("primary_ips") or [], "type", "ipv4", spec["region"])
            # An address is bought with the server, and listed apart.
            return net if net is None else net + (address or 0) * resource.facts.get("ipv4", True)
        if resource.kind == "volume":
            return Decimal(pricing["volume"]["price_per_gb_month"]["net"]) * spec["size_gb"]
        if resource.kind == "load_balancer":
            return place_price(pricing["load_balancer_types"], "name", spec["plan"], spec["region"])
        return Decimal(0)

    def offered(self, server: Resource) -> str:
        plan, region = server.spec["plan"], server.spec["region"]
        kinds = self.prices()["server_types"]
        if place_price(kinds, "name", plan, region) is not None:
            return ""
        there = [k["name"] for k in kinds if any(price["location"] == region for price in k["prices"])]
        places = {price["location"] for kind in kinds for price in kind["prices"]}
        known = f"there are {', '.join(sorted(there))}" if there else f"regions are {', '.join(sorted(places))}"
        return f"{server.name}: hetzner has no plan {plan} in {region}; {known}."

    # What is done

    def do(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.track(self.ask("POST", path, body))

    def track(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Remembers the actions that an answer has begun."""
        actions = [answer.get("action"), *answer.get("actions", []), *answer.get("next_actions", [])]
        self.waiting += [partial(self.succeeded, one["id"]) for one in actions if one and one["status"] != "success"]
        return answer

    def succeeded(self, number: int) -> bool:
        one = self.api.get(f"/actions/{number}")["action"]
        if one["status"] == "error":
            problem = one.get("error") or {}
            words = f"{problem.get('code')}: {problem.get('message')}"
            raise CloudError(f"hetzner: {one['command']} failed ({words}).", 422)
        return bool(one["status"] == "success")

    def busy(self, error: CloudError) -> bool:
        return error.code in ("locked", "conflict", "resource_in_use")

    def create(self, wanted: Resource, known: Known) -> Resource:
        labels = {MARK: ""}
        spec = wanted.spec
        if wanted.kind == "key":
            body = {"name": wanted.name, "public_key": spec["key"], "labels": labels}
            made = self.api.post("/ssh_keys", body)["ssh_key"]
        elif wanted.kind == "network":
            zone = self.network_zone(wanted.facts["region"])
            subnet = {"type": "cloud", "network_zone": zone, "ip_range": spec["range"]}
            body = {"name": wanted.name, "ip_range": spec["range"], "subnets": [subnet], "labels": labels}
            made = self.do("/networks", body)["network"]
        elif wanted.kind == "firewall":
            body = {"name": wanted.name, "rules": write_rules(spec["rules"]), "labels": labels}
            made = self.do("/firewalls", body)["firewall"]
        elif wanted.kind == "server":
            made = self.do("/servers", self.server_body(wanted, known))["server"]
        elif wanted.kind == "volume":
            server = known_number(known, "server", spec["server"])
            body = {"name": wanted.name, "size": spec["size_gb"], "server": server, "labels": labels}
            made = self.do("/volumes", body)["volume"]
        elif wanted.kind == "load_balancer":
            made = self.do("/load_balancers", self.balancer_body(wanted, known))["load_balancer"]
        else:
            body = {"name": self.record_path(wanted)[1], "type": spec["type"], "ttl": RECORD_TTL_SECONDS}
            body["records"] = [{"value": value} for value in spec["values"]]
            made = self.do(f"/zones/{self.record_path(wanted)[0]}/rrsets", body)["rrset"]
        return Resource(wanted.kind, self.provider, wanted.name, spec, str(made["id"]), True, wanted.facts)

    def server_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        return {
            "name": wanted.name,
            "server_type": spec["plan"],
            "image": spec["image"],
            "location": spec["region"],
            "ssh_keys": [known_number(known, "key", name) for name in wanted.facts["keys"]],
            "networks": [known_number(known, "network", name) for name in spec["networks"]],
            "firewalls": [{"firewall": known_number(known, "firewall", spec["firewall"])}],
            "user_data": wanted.facts["user_data"],
            "labels": to_labels(spec["roles"], spec["labels"]),
        }

    def balancer_body(self, wanted: Resource, known: Known) -> dict[str, Any]:
        spec = wanted.spec
        return {
            "name": wanted.name,
            "load_balancer_type": spec["plan"],
            "location": spec["region"],
            "algorithm": {"type": "round_robin"},
            "services": [service(port, spec["proxy_protocol"]) for port in spec["ports"]],
            "targets": [target(known_number(known, "server", name)) for name in spec["servers"]],
            "labels": {MARK: ""},
        }

    def network_zone(self, region: str) -> str:
        for one in self.api.list_all("/locations", "locations"):
            if one["name"] == region:
                return str(one["network_zone"])
        raise CloudError(f"hetzner has no region {region}.", 404)

    def record_path(self, record: Resource) -> tuple[int, str]:
        """The id of the zone of a record, and its name in it."""
        domain = record.facts["domain"]
        zone = zone_of(domain, self.zones)
        return self.zones[zone], "@" if domain == zone else domain.removesuffix(f".{zone}")

    def change(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        spec = wanted.spec
        if wanted.kind == "firewall":
            self.do(f"/firewalls/{existing.id}/actions/set_rules", {"rules": write_rules(spec["rules"])})
        elif wanted.kind == "server":
            self.change_server(wanted, existing, differences, known)
        elif wanted.kind == "volume":
            self.change_volume(wanted, existing, differences, known)
        elif wanted.kind == "load_balancer":
            self.change_balancer(wanted, existing, differences, known)
        elif wanted.kind == "record":
            zone, name = self.record_path(wanted)
            body = {"records": [{"value": value} for value in spec["values"]]}
            self.do(f"/zones/{zone}/rrsets/{name}/{spec['type']}/actions/set_records", body)

    def change_server(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        spec, path = wanted.spec, f"/servers/{existing.id}"
        if "roles" in differences or "labels" in differences:
            labels = to_labels(spec["roles"], {**existing.spec["labels"], **spec["labels"]})
            self.api.put(path, {"labels": labels})
        if "firewall" in differences:
            new = known_number(known, "firewall", spec["firewall"])
            here = [{"type": "server", "server": {"id": int(existing.id)}}]
            if new not in existing.facts["walls"]:
                self.do(f"/firewalls/{new}/actions/apply_to_resources", {"apply_to": here})
            for wall in existing.facts["walls"]:
                if wall != new and self.names["firewalls"].get(wall, "").startswith("bulwark-"):
                    self.do(f"/firewalls/{wall}/actions/remove_from_resources", {"remove_from": here})
        for name in set(spec["networks"]) - set(existing.spec["networks"]) if "networks" in differences else ():
            self.do(f"{path}/actions/attach_to_network", {"network": known_number(known, "network", name)})
            self.settle()
        if "plan" in differences:
            self.resize(wanted, existing)

    def resize(self, wanted: Resource, existing: Resource) -> None:
        path = f"/servers/{existing.id}"
        if existing.facts["status"] == "running":
            self.do(f"{path}/actions/shutdown")
            self.wait_until_off(path, "server")
        # The disk stays, so the way back is open.
        self.do(f"{path}/actions/change_type", {"server_type": wanted.spec["plan"], "upgrade_disk": False})
        self.settle()
        self.do(f"{path}/actions/poweron")
        self.settle()

    def change_volume(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        path = f"/volumes/{existing.id}/actions"
        if "size_gb" in differences:
            self.do(f"{path}/resize", {"size": wanted.spec["size_gb"]})
        if "server" in differences:
            if existing.spec["server"] != "none":
                self.do(f"{path}/detach")
                self.settle()
            self.do(
                f"{path}/attach", {"server": known_number(known, "server", wanted.spec["server"]), "automount": False}
            )

    def change_balancer(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        path, spec, was = f"/load_balancers/{existing.id}/actions", wanted.spec, existing.spec
        if "plan" in differences:
            self.do(f"{path}/change_type", {"load_balancer_type": spec["plan"]})
            self.settle()
        if "ports" in differences or "proxy_protocol" in differences:
            for port in sorted(set(was["ports"]) - set(spec["ports"])):
                self.do(f"{path}/delete_service", {"listen_port": port})
                self.settle()
            for port in spec["ports"]:
                verb = "update_service" if port in was["ports"] else "add_service"
                self.do(f"{path}/{verb}", service(port, spec["proxy_protocol"]))
                self.settle()
        if "servers" in differences:
            for name in sorted(set(was["servers"]) ^ set(spec["servers"])):
                verb = "add_target" if name in spec["servers"] else "remove_target"
                body = target(known_number(known, "server", name))
                self.do(f"{path}/{verb}", body if verb == "add_target" else {k: body[k] for k in ("type", "server")})
                self.settle()

    def destroy(self, existing: Resource) -> None:
        if existing.kind == "record":
            zone, name = self.record_path(existing)
            self.track(self.api.delete(f"/zones/{zone}/rrsets/{name}/{existing.spec['type']}"))
            return
        if existing.kind == "volume" and existing.spec["server"] != "none":
            self.do(f"/volumes/{existing.id}/actions/detach")
            self.settle()
        path = {"key": "ssh_keys"}.get(existing.kind, f"{existing.kind}s")
        self.track(self.api.delete(f"/{path}/{existing.id}"))

    # Snapshots

    def snapshots(self) -> list[Snapshot]:
        found = self.api.list_all("/images", "images", {"type": "snapshot"})
        return [Snapshot(str(one["id"]), one["description"]) for one in found]

    def take_snapshot(self, server: Resource, name: str) -> None:
        body = {"type": "snapshot", "description": name, "labels": {MARK: ""}}
        self.do(f"/servers/{server.id}/actions/create_image", body)

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        self.api.delete(f"/images/{snapshot.id}")


def known_number(known: Known, kind: str, name: str) -> int:
    return int(known_id(known, kind, name))


def first_host(network: str | None) -> str | None:
    """The address that a server has in its IPv6 network."""
    return str(ipaddress.IPv6Network(network, strict=False)[1]) if network else None


def place_price(entries: Sequence[Mapping[str, Any]], key: str, name: str, region: str) -> Decimal | None:
    for entry in entries:
        if entry[key] == name:
            for price in entry["prices"]:
                if price["location"] == region:
                    return Decimal(price["price_monthly"]["net"])
    return None


def service(port: int, proxy_protocol: bool) -> dict[str, Any]:
    health = {**HEALTH, "port": port}
    return {
        "protocol": "tcp",
        "listen_port": port,
        "destination_port": port,
        "proxyprotocol": proxy_protocol,
        "health_check": health,
    }


def target(server: int) -> dict[str, Any]:
    return {"type": "server", "server": {"id": server}, "use_private_ip": False}


def read_rules(firewall: Mapping[str, Any]) -> list[str]:
    """The incoming rules of a firewall as lines, see C(wish.rule_lines)."""
    return sorted(
        f"{rule['protocol']} {rule.get('port') or '-'} {ipaddress.ip_network(source, strict=False)}"
        for rule in firewall.get("rules") or []
        if rule["direction"] == "in"
        for source in rule["source_ips"]
    )


def write_rules(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"direction": "in", "protocol": protocol, "source_ips": sources, **({"port": port} if port != "-" else {})}
        for (protocol, port), sources in sources_by_port(lines).items()
    ]

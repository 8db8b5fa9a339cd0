"""Hetzner Cloud, API v1, without `datacenter`, which the service dropped in 2026."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Any

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Refused, Shape, Thing, Whole, copied, on
from tests.cloud.fleet import NETWORK, Machine

LOCATIONS = {
    "fsn1": ("Falkenstein", "DE", "eu-central"),
    "nbg1": ("Nuremberg", "DE", "eu-central"),
    "hel1": ("Helsinki", "FI", "eu-central"),
    "ash": ("Ashburn, VA", "US", "us-east"),
}
# Name: cores, memory, disk, architecture, euro a month.
TYPES = {
    "cpx22": (2, 4, 80, "x86", 6.49),
    "cpx32": (4, 8, 160, "x86", 10.99),
    "cax11": (2, 4, 40, "arm", 3.79),
    "ccx13": (2, 8, 80, "x86", 12.49),
}
IMAGES = {"debian-13": ("debian", "13"), "debian-12": ("debian", "12"), "ubuntu-24.04": ("ubuntu", "24.04")}
STATUS = ["running", "initializing", "starting", "stopping", "off", "deleting", "migrating", "rebuilding", "unknown"]
WORDS = {"running": "running", "stopped": "off", "pending": "initializing"}
RECORDS = {"A", "AAAA", "CAA", "CNAME", "DS", "HINFO", "HTTPS", "MX", "NS", "PTR", "RP", "SOA", "SRV", "SVCB", "TXT"}
RECORDS |= {"TLSA"}
LABEL = re.compile(r"|[a-z0-9A-Z]|[a-z0-9A-Z][a-z0-9A-Z._-]{0,61}[a-z0-9A-Z]")
LABELS: Shape = {"*": LABEL}
HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*")
SORT = [{f"{word}{way}" for word in ("id", "name", "created") for way in ("", ":asc", ":desc")}]
LISTED: dict[str, Any] = {"name": str, "label_selector": str, "sort": SORT}
RULE = {
    "direction!": {"in", "out"},
    "protocol!": {"tcp", "udp", "icmp", "esp", "gre"},
    "port": (str, None),
    "source_ips": [str],
    "destination_ips": [str],
    "description": (str, None),
}
TARGET: Shape = {"type!": {"server", "label_selector"}, "server": {"id!": int}, "label_selector": {"selector!": str}}
HEALTH = {
    "protocol!": {"tcp", "http"},
    "port!": int,
    "interval!": int,
    "timeout!": int,
    "retries!": int,
    "http": {
        "domain": (str, None),
        "path": str,
        "status_codes": [str],
        "response": str,
        "tls": bool,
    },
}
SERVICE = {
    "protocol!": {"tcp", "http", "https"},
    "listen_port!": int,
    "destination_port!": int,
    "proxyprotocol!": bool,
    "health_check!": HEALTH,
    "http": {
        "certificates": [int],
        "cookie_lifetime": int,
        "cookie_name": str,
        "redirect_http": bool,
        "sticky_sessions": bool,
        "timeout_idle": int,
    },
}
LB_TARGET = {
    "type!": {"server", "label_selector", "ip"},
    "server": {"id!": int},
    "label_selector": {"selector!": str},
    "ip": {"ip!": str},
    "use_private_ip": bool,
}
SUBNET = {"type!": {"cloud", "server", "vswitch"}, "network_zone!": str, "ip_range": str, "vswitch_id": int}
RRSET = {
    "name!": str,
    "type!": RECORDS,
    "ttl": (int, None),
    "records!": [{"value!": str, "comment": str}],
    "labels": LABELS,
}
SERVER = {
    "name!": HOSTNAME,
    "server_type!": (str, int),
    "image!": (str, int),
    "location": str,
    "ssh_keys": [(str, int)],
    "volumes": [int],
    "networks": [int],
    "firewalls": [{"firewall!": int}],
    "user_data": str,
    "labels": LABELS,
    "automount": bool,
    "start_after_create": bool,
    "placement_group": int,
    "public_net": {"enable_ipv4": bool, "enable_ipv6": bool, "ipv4": (int, None), "ipv6": (int, None)},
}
NAMED: Shape = {"name": str, "labels": LABELS}


def selected(labels: dict[str, str], selector: str) -> bool:
    """Whether labels fit a selector: k=v, k==v, k!=v, k, !k, k in (a,b), k notin (a,b); a comma is an and."""
    for term in re.findall(r"\s*((?:[^,(]|\([^)]*\))+)", selector):
        among = re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", term)
        equal = re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)\s*", term)
        alone = re.fullmatch(r"(!?)([^=!\s()]+)\s*", term)
        if among:
            key, word, values = among.groups()
            inside = labels.get(key) in [value.strip() for value in values.split(",")]
            fits = inside if word == "in" else not inside
        elif equal:
            key, word, value = equal.groups()
            fits = (labels.get(key) == value) == (word != "!=")
        elif alone:
            fits = (alone[2] in labels) == (not alone[1])
        else:
            raise Refused(400, "invalid_input", "invalid input in field 'label_selector'", "label_selector")
        if not fits:
            return False
    return True


class Hetzner(Api):
    name, prefix = "hetzner", "/hetzner/v1"
    list_path, list_key, second_path = "/servers", "servers", "/networks"
    server_kinds = ("servers",)
    # The cap is in the prose of the documents only.
    paging = {"page": Whole(), "per_page": Whole(1, 50)}
    kinds = (
        Kind("networks", "/networks", "network", {
            "name!": str, "ip_range!": str, "labels": LABELS, "subnets": [SUBNET], "expose_routes_to_vswitch": bool,
            "routes": [{"destination!": str, "gateway!": str}],
        }, {**NAMED, "expose_routes_to_vswitch": bool}, query=LISTED, unique="name"),
        Kind("ssh_keys", "/ssh_keys", "ssh_key", {"name!": str, "public_key!": str, "labels": LABELS}, NAMED,
             query={**LISTED, "fingerprint": str}, unique="name"),
        Kind("firewalls", "/firewalls", "firewall",
             {"name!": str, "labels": LABELS, "rules": [RULE], "apply_to": [TARGET]}, NAMED, query=LISTED,
             unique="name"),
        Kind("volumes", "/volumes", "volume", None, NAMED, query={**LISTED, "status": [{"available", "creating"}]}),
        Kind("load_balancers", "/load_balancers", "load_balancer", None, NAMED, query=LISTED),
        Kind("placement_groups", "/placement_groups", "placement_group",
             {"name!": str, "type!": {"spread"}, "labels": LABELS}, NAMED, query={**LISTED, "type": str}),
        Kind("images", "/images", "image", None, {"description": str, "type": {"snapshot"}, "labels": LABELS}, query={
            **LISTED, "type": [{"system", "snapshot", "backup", "app"}], "bound_to": [str], "architecture": str,
            "status": [{"available", "creating", "unavailable"}], "include_deprecated": {"true", "false"},
        }),
        Kind("locations", "/locations", "location", query={"name": str, "sort": SORT}, deletable=False),
        Kind("server_types", "/server_types", "server_type", query={"name": str}, deletable=False),
        Kind("load_balancer_types", "/load_balancer_types", "load_balancer_type", query={"name": str}, deletable=False),
    )  # fmt: skip

    # -- manners -------------------------------------------------------------------------------------------------------

    def make_token(self, account: str) -> str:
        return hashlib.sha256(f"hetzner {account}".encode()).hexdigest()

    def fresh_limits(self) -> list[Limit]:
        # 3,600 an hour, one back each second; as a window it is stricter only after an hour.
        return [Limit(3600, 3600)]

    def limit_headers(self) -> dict[str, str]:
        limit = self.limits[0]
        # The moment when all of them are back.
        full = self.clock.now() + (limit.most - limit.left)
        return {
            "RateLimit-Limit": str(limit.most),
            "RateLimit-Remaining": str(limit.left),
            "RateLimit-Reset": str(int(full)),
        }

    def over_limit(self, limit: Limit) -> Answer:
        return self.error(429, "rate_limit_exceeded", "rate limit exceeded")

    def error(self, status: int, code: str, message: str, field: str | None = None) -> Answer:
        details = {"fields": [{"name": field, "messages": [message]}]} if field else None
        return Answer(status, {"error": {"code": code, "message": message, "details": details}})

    def bad_token(self) -> Answer:
        return self.error(401, "unauthorized", "unable to authenticate")

    def no_scope(self) -> Answer:
        return self.error(403, "forbidden", "insufficient permissions for this request")

    def read_only(self) -> Answer:
        return self.error(403, "token_readonly", "token is only allowed to perform GET requests")

    def list_answer(self, call: Call, key: str, things: list[Thing]) -> Answer:
        part, page, pages, size = self.numbered(call, things)
        pagination = {
            "page": page,
            "per_page": size,
            "previous_page": page - 1 if page > 1 else None,
            "next_page": page + 1 if page < pages else None,
            "last_page": pages,
            "total_entries": len(things),
        }
        return Answer(200, {key: part, "meta": {"pagination": pagination}})

    def changed(self, kind: Kind, thing: Thing) -> Answer:
        return self.one_answer(kind.one, thing)

    def filtered(self, call: Call, kind: Kind | None, things: list[Thing]) -> list[Thing]:
        if "label_selector" in call.query:
            things = [thing for thing in things if selected(thing["labels"], call.one("label_selector"))]
        if "name" in call.query:
            things = [thing for thing in things if thing["name"] == call.one("name")]
        for word in ("status", "type", "architecture"):
            if word in call.query:
                things = [thing for thing in things if thing.get(word) in call.query[word]]
        for order in reversed(call.query.get("sort", [])):
            word, _, way = order.partition(":")
            things = sorted(things, key=lambda thing: thing[word], reverse=way == "desc")
        return things

    # -- what there is -------------------------------------------------------------------------------------------------

    def make_catalog(self) -> dict[str, list[Thing]]:
        locations = [
            {
                "id": number,
                "name": name,
                "description": f"{city} DC Park 1",
                "city": city,
                "country": country,
                "latitude": 50.1,
                "longitude": 12.3,
                "network_zone": zone,
            }
            for number, (name, (city, country, zone)) in enumerate(LOCATIONS.items(), 1)
        ]
        types = [
            {
                "id": number,
                "name": name,
                "description": name.upper(),
                "category": "Shared vCPU",
                "cores": cores,
                "memory": float(memory),
                "disk": disk,
                "deprecated": False,
                "deprecation": None,
                "architecture": architecture,
                "cpu_type": "dedicated" if name.startswith("ccx") else "shared",
                "storage_type": "local",
                "locations": [{"id": one["id"], "name": one["name"], "deprecation": None} for one in locations],
                "prices": [self.price(str(one["name"]), euro) for one in locations],
            }
            for number, (name, (cores, memory, disk, architecture, euro)) in enumerate(TYPES.items(), 101)
        ]
        images = [
            self.image(number, name, flavor, version, architecture)
            for number, (name, flavor, version, architecture) in enumerate(
                ((n, f, v, a) for n, (f, v) in IMAGES.items() for a in ("x86", "arm")), 67001
            )
        ]
        balancers = [
            {
                "id": number,
                "name": name,
                "description": name.upper(),
                "max_connections": 10000,
                "max_services": 5,
                "max_targets": 25,
                "max_assigned_certificates": 10,
                "deprecated": None,
                "prices": [self.price(place, euro) for place in LOCATIONS],
            }
            for number, (name, euro) in enumerate({"lb11": 5.39, "lb21": 16.4}.items(), 1)
        ]
        return {"locations": locations, "server_types": types, "system": images, "load_balancer_types": balancers}

    @staticmethod
    def price(place: str, euro: float) -> Thing:
        def _both(net: float) -> dict[str, str]:
            return {"net": f"{net:.10f}", "gross": f"{net * 1.19:.10f}"}

        # American places cost a little more.
        net = euro * (1.1 if place == "ash" else 1)
        return {
            "location": place,
            "price_hourly": _both(net / 624),
            "price_monthly": _both(net),
            "included_traffic": 20 * 1024**4,
            "price_per_tb_traffic": _both(1.0),
        }

    @staticmethod
    def image(number: int, name: str | None, flavor: str, version: str | None, architecture: str) -> Thing:
        return {
            "id": number,
            "type": "system",
            "status": "available",
            "name": name,
            "description": f"{flavor.title()} {version}",
            "image_size": None,
            "disk_size": 5,
            "created": "2024-01-01T00:00:00Z",
            "created_from": None,
            "bound_to": None,
            "os_flavor": flavor,
            "os_version": version,
            "rapid_deploy": True,
            "protection": {"delete": False},
            "deprecated": None,
            "deleted": None,
            "labels": {},
            "architecture": architecture,
        }

    def fill(self, account: Account, machines: list[Machine]) -> None:
        account.stock["images"] = {one["id"]: one for one in self.catalog["system"]}
        network = self.network_of(account)
        for one in machines:
            account.put("servers", self.rendered(one, network))

    def network_of(self, account: Account) -> Thing:
        for known in account.all("networks"):
            return known
        network = self.make_network(next(self.numbers), {"name": NETWORK, "ip_range": "10.0.0.0/8"})
        return account.put("networks", network)

    def rendered(self, one: Machine, network: Thing) -> Thing:
        types, locations, images = self.catalog["server_types"], self.catalog["locations"], self.catalog["system"]
        kind, place = types[one.place % len(types)], locations[one.place % len(locations)]
        images = [image for image in images if image["architecture"] == kind["architecture"]]
        server = self.make_server(
            one.number,
            name=one.name,
            kind=kind,
            place=place,
            image=images[one.place % len(images)],
            status=WORDS.get(one.status, one.status),
            created=one.created.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            labels={**one.labels, **dict.fromkeys(one.tags, "")},
            ipv4=one.public_ipv4,
            ipv6=f"{one.network_v6}/64" if one.network_v6 else None,
        )
        if one.private_ipv4:
            self.plug(server, network, one.private_ipv4)
        if one.change:
            one.change(server)
        return server

    @staticmethod
    def plug(server: Thing, network: Thing, address: str) -> None:
        mac = "86:00:00:" + ":".join(f"{int(octet):02x}" for octet in address.split(".")[1:])
        server["private_net"].append({
            "network": network["id"], "ip": address, "alias_ips": [], "mac_address": mac,
        })  # fmt: skip
        network["servers"].append(server["id"])

    @staticmethod
    def make_server(
        number: int,
        name: str,
        kind: Thing,
        place: Thing,
        image: Thing,
        status: str,
        created: str,
        labels: dict[str, str],
        ipv4: str | None,
        ipv6: str | None,
    ) -> Thing:
        return {
            "id": number,
            "name": name,
            "status": status,
            "created": created,
            "public_net": {
                "ipv4": ipv4
                and {
                    "id": number * 2,
                    "ip": ipv4,
                    "blocked": False,
                    "dns_ptr": f"static.{ipv4}.clients.your-server.test",
                },
                "ipv6": ipv6 and {"id": number * 2 + 1, "ip": ipv6, "blocked": False, "dns_ptr": []},
                "floating_ips": [],
                "firewalls": [],
            },
            "private_net": [],
            "server_type": kind,
            "location": place,
            "image": image,
            "iso": None,
            "rescue_enabled": False,
            "locked": False,
            "backup_window": None,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "included_traffic": 20 * 1024**4,
            "protection": {"delete": False, "rebuild": False},
            "labels": labels,
            "volumes": [],
            "load_balancers": [],
            "primary_disk_size": kind["disk"],
            "placement_group": None,
        }

    @on("GET", "/servers", {**LISTED, "status": [set(STATUS)]}, paged=True)
    def servers(self, call: Call) -> Answer:
        return self.list_answer(call, "servers", self.filtered(call, None, call.account.all("servers")))

    @on("GET", "/servers/{key}")
    def server(self, call: Call, key: str) -> Answer:
        return Answer(200, {"server": call.account.find("servers", key)})

    @on("GET", "/datacenters")
    @on("GET", "/datacenters/{key}")
    def gone(self, call: Call, key: str = "") -> Answer:
        call.problems.append("the addresses of datacenters are gone since October 2026")
        return self.error(410, "gone", "this endpoint was removed")

    # -- networks, keys, firewalls -------------------------------------------------------------------------------------

    @staticmethod
    def make_network(number: int, body: Thing) -> Thing:
        return {
            "id": number,
            "name": body["name"],
            "ip_range": body["ip_range"],
            "subnets": [
                {"ip_range": body["ip_range"], "gateway": str(ipaddress.ip_network(body["ip_range"])[1]), **subnet}
                for subnet in body.get("subnets", [])
            ],
            "routes": body.get("routes", []),
            "servers": [],
            "load_balancers": [],
            "protection": {"delete": False},
            "labels": body.get("labels", {}),
            "created": "2024-01-01T00:00:00Z",
            "expose_routes_to_vswitch": body.get("expose_routes_to_vswitch", False),
        }

    def make_networks(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        try:
            ipaddress.ip_network(call.body["ip_range"])
        except ValueError:
            raise Refused(422, "invalid_input", "invalid input in field 'ip_range'", "ip_range") from None
        return self.make_network(thing["id"], copied(call.body))

    def drop_networks(self, account: Account, thing: Thing) -> None:
        if thing["servers"] or thing["load_balancers"]:
            raise Refused(409, "conflict", "network is still in use")

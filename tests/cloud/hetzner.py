"""Hetzner Cloud, API v1, without `datacenter`, which the service dropped in 2026."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
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

    # -- manners -----------------------------------------------------------------------------------------------------

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

    # -- what there is -----------------------------------------------------------------------------------------------

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
        network = self.make_network(next(self.numbers), {
            "name": NETWORK, "ip_range": "10.0.0.0/8", "subnets": [{"type": "cloud", "network_zone": "eu-central"}],
        })  # fmt: skip
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

    # -- servers ------------------------------------------------------------------------------------------------------

    @on("POST", "/servers", body=SERVER)
    def create_server(self, call: Call) -> Answer:
        body, account = call.body, call.account
        if any(one["name"] == body["name"] for one in account.all("servers")):
            raise Refused(409, "uniqueness_error", "server name is already used", "name")
        kind = self.named(call, "server_types", body["server_type"], "server_type")
        place = self.named(call, "locations", body.get("location", "fsn1"), "location")
        images = [one for one in account.all("images") if one["architecture"] == kind["architecture"]]
        image = next((one for one in images if body["image"] in (one["name"], one["id"], str(one["id"]))), None)
        if image is None:
            raise Refused(422, "invalid_input", "image not found", "image")
        for key in body.get("ssh_keys", []):
            self.named(call, "ssh_keys", key, "ssh_keys")
        networks = [account.find("networks", key) for key in body.get("networks", [])]
        firewalls = [account.find("firewalls", one["firewall"]) for one in body.get("firewalls", [])]
        volumes = [account.find("volumes", key) for key in body.get("volumes", [])]
        public = body.get("public_net", {})
        four, six = self.new_address()
        server = self.make_server(
            next(self.numbers),
            name=body["name"],
            kind=kind,
            place=place,
            image=image,
            status="initializing",
            created=self.clock.stamp(),
            labels=dict(body.get("labels", {})),
            ipv4=four if public.get("enable_ipv4", True) else None,
            ipv6=six[:-1] + "/64" if public.get("enable_ipv6", True) else None,
        )
        if not networks and not any(server["public_net"][word] for word in ("ipv4", "ipv6")):
            raise Refused(422, "invalid_input", "server must have a public or a private network", "public_net")
        for network in networks:
            self.plug(server, network, self.free_ip(account, network))
        account.put("servers", server)
        for firewall in firewalls:
            self.apply(account, firewall, {"type": "server", "server": {"id": server["id"]}})
        for volume in volumes:
            self.attach(server, volume)
        last = "running" if body.get("start_after_create", True) else "off"
        self.in_time(account, lambda: server.update(status=last))
        password = None if body.get("ssh_keys") else "not-a-real-password"
        # What was asked for and is in no answer; tests look at it.
        account.put(
            "first_boots", {"user_data": body.get("user_data"), "ssh_keys": body.get("ssh_keys", [])}, server["id"]
        )
        action = self.action(account, "create_server", server["id"])
        steps = [self.action(account, "start_server", server["id"])] if last == "running" else []
        return Answer(201, {"server": server, "action": action, "next_actions": steps, "root_password": password})

    def named(self, call: Call, kind: str, key: Any, field: str) -> Thing:
        """By id or by name."""
        for one in self.catalog.get(kind) or call.account.all(kind):
            if key in (one["id"], one["name"], str(one["id"])):
                return one
        raise Refused(422, "invalid_input", f"{field} {key!r} not found", field)

    def free_ip(self, account: Account, network: Thing, wish: str | None = None) -> str:
        taken = {
            one["ip"]
            for kind in ("servers", "load_balancers")
            for thing in account.all(kind)
            for one in thing["private_net"]
            if one["network"] == network["id"]
        }
        if not network["subnets"]:
            raise Refused(422, "no_subnet_available", "no subnet available in network")
        for subnet in network["subnets"]:
            for address in itertools.islice(ipaddress.ip_network(subnet["ip_range"]).hosts(), 1, 65_000):
                if str(address) not in taken and wish in (None, str(address)):
                    return str(address)
        raise Refused(422, "ip_not_available", "IP is not available")

    @on("PUT", "/servers/{key}", body=NAMED)
    def change_server(self, call: Call, key: str) -> Answer:
        server = call.account.find("servers", key)
        server.update(call.body)
        call.account.version += 1
        return Answer(200, {"server": server})

    @on("DELETE", "/servers/{key}")
    def delete_server(self, call: Call, key: str) -> Answer:
        account, server = call.account, call.account.find("servers", key)
        if server["protection"]["delete"]:
            raise Refused(423, "protected", "server is protected from deletion")
        account.drop("servers", key)
        for network in account.all("networks"):
            network["servers"] = [one for one in network["servers"] if one != server["id"]]
        for volume in account.all("volumes"):
            if volume["server"] == server["id"]:
                volume["server"] = None
        for firewall in account.all("firewalls"):
            firewall["applied_to"] = [
                one for one in firewall["applied_to"] if one.get("server", {}).get("id") != server["id"]
            ]
        for balancer in account.all("load_balancers"):
            balancer["targets"] = [
                one for one in balancer["targets"] if one.get("server", {}).get("id") != server["id"]
            ]
        return Answer(200, {"action": self.action(account, "delete_server", server["id"])})

    @on("POST", "/servers/{key}/actions/attach_to_network", body={
        "network!": int, "ip": str, "alias_ips": [str], "ip_range": str,
    })  # fmt: skip
    def attach_to_network(self, call: Call, key: str) -> Answer:
        server = call.account.find("servers", key)
        network = call.account.find("networks", call.body["network"])
        if any(one["network"] == network["id"] for one in server["private_net"]):
            raise Refused(422, "server_already_attached", "server is already attached to the network")
        self.plug(server, network, self.free_ip(call.account, network, call.body.get("ip")))
        return self.acted(call, "attach_to_network", server)

    @on("POST", "/servers/{key}/actions/detach_from_network", body={"network!": int})
    def detach_from_network(self, call: Call, key: str) -> Answer:
        server, number = call.account.find("servers", key), call.body["network"]
        server["private_net"] = [one for one in server["private_net"] if one["network"] != number]
        network = call.account.find("networks", number)
        network["servers"] = [one for one in network["servers"] if one != server["id"]]
        return self.acted(call, "detach_from_network", server)

    @on("POST", "/servers/{key}/actions/change_type", body={"server_type!": (str, int), "upgrade_disk!": bool})
    def change_type(self, call: Call, key: str) -> Answer:
        server = call.account.find("servers", key)
        if server["status"] != "off":
            raise Refused(422, "server_not_stopped", "server must be stopped before changing its type")
        kind = self.named(call, "server_types", call.body["server_type"], "server_type")
        if kind["disk"] < server["primary_disk_size"] or kind["architecture"] != server["server_type"]["architecture"]:
            raise Refused(422, "invalid_server_type", "the server type does not fit for the given server")
        server["server_type"] = kind
        if call.body["upgrade_disk"]:
            server["primary_disk_size"] = kind["disk"]
        return self.acted(call, "change_server_type", server)

    @on("POST", "/servers/{key}/actions/{command}")
    def power(self, call: Call, key: str, command: str) -> Answer:
        after = {"poweron": "running", "reboot": "running", "reset": "running", "poweroff": "off", "shutdown": "off"}
        if command not in after:
            call.problems.append(f"there is no action {command} of servers here")
            raise Refused(404, "not_found", "the address is not known")
        server = call.account.find("servers", key)
        self.in_time(call.account, lambda: server.update(status=after[command]))
        return self.acted(call, f"{command}_server", server)

    @on("POST", "/servers/{key}/actions/create_image", body={
        "type": {"snapshot", "backup"}, "description": str, "labels": LABELS,
    })  # fmt: skip
    def create_image(self, call: Call, key: str) -> Answer:
        server = call.account.find("servers", key)
        image = {
            **self.image(next(self.numbers), None, "debian", "13", server["server_type"]["architecture"]),
            "type": call.body.get("type", "snapshot"),
            "status": "creating",
            "description": call.body.get("description", f"{server['name']} {self.clock.stamp()}"),
            "labels": call.body.get("labels", {}),
            "image_size": 2.3,
            "created": self.clock.stamp(),
            "created_from": {"id": server["id"], "name": server["name"]},
        }
        call.account.put("images", image)
        self.in_time(call.account, lambda: image.update(status="available"))
        return Answer(201, {"image": image, "action": self.action(call.account, "create_image", server["id"])})

    # -- actions ------------------------------------------------------------------------------------------------------

    def action(self, account: Account, command: str, *servers: int) -> Thing:
        action = {
            "id": next(self.numbers),
            "command": command,
            "status": "running",
            "progress": 0,
            "started": self.clock.stamp(),
            "finished": None,
            "resources": [{"id": number, "type": "server"} for number in servers],
            "error": None,
        }
        account.put("actions", action)
        self.in_time(account, lambda: action.update(status="success", progress=100, finished=self.clock.stamp()))
        # As it is now: the answer must not change while it is on its way.
        return dict(action)

    def acted(self, call: Call, command: str, *servers: Thing) -> Answer:
        call.account.version += 1
        return Answer(201, {"action": self.action(call.account, command, *(one["id"] for one in servers))})

    @on("GET", "/actions", {"id": [str], "status": [str], "sort": [str]}, paged=True)
    def actions(self, call: Call) -> Answer:
        wanted = [one for one in call.account.all("actions") if str(one["id"]) in call.query.get("id", [])]
        return self.list_answer(call, "actions", wanted)

    @on("GET", "/actions/{key}")
    @on("GET", "/servers/actions/{key}")
    def one_action(self, call: Call, key: str) -> Answer:
        return Answer(200, {"action": call.account.find("actions", key)})

    # -- networks, keys, firewalls ------------------------------------------------------------------------------------

    @staticmethod
    def make_network(number: int, body: Thing, created: str = "2024-01-01T00:00:00Z") -> Thing:
        return {
            "id": number,
            "name": body["name"],
            "ip_range": body["ip_range"],
            "subnets": [
                {
                    "ip_range": body["ip_range"],
                    "gateway": str(ipaddress.ip_network(body["ip_range"])[1]),
                    "vswitch_id": None,
                    **subnet,
                }
                for subnet in body.get("subnets", [])
            ],
            "routes": body.get("routes", []),
            "servers": [],
            "load_balancers": [],
            "protection": {"delete": False},
            "labels": body.get("labels", {}),
            "created": created,
            "expose_routes_to_vswitch": body.get("expose_routes_to_vswitch", False),
        }

    def make_networks(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        try:
            whole = ipaddress.ip_network(call.body["ip_range"])
            parts = [ipaddress.ip_network(one["ip_range"]) for one in call.body.get("subnets", []) if "ip_range" in one]
        except ValueError:
            raise Refused(422, "invalid_input", "invalid input in field 'ip_range'", "ip_range") from None
        if not whole.is_private or not all(part.subnet_of(whole) for part in parts):  # type: ignore[arg-type]
            raise Refused(422, "invalid_input", "the IP range must be private and hold its subnets", "ip_range")
        return self.make_network(thing["id"], copied(call.body), self.clock.stamp())

    def drop_networks(self, account: Account, thing: Thing) -> None:
        """Servers are detached, as the documents promise."""
        for kind in ("servers", "load_balancers"):
            for one in account.all(kind):
                one["private_net"] = [net for net in one["private_net"] if net["network"] != thing["id"]]

    @on("POST", "/networks/{key}/actions/add_subnet", body=SUBNET)
    def add_subnet(self, call: Call, key: str) -> Answer:
        network = call.account.find("networks", key)
        network["subnets"] += self.make_network(0, {**network, "subnets": [call.body]})["subnets"]
        return self.acted(call, "add_subnet")

    def make_ssh_keys(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        words = call.body["public_key"].split()
        if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
            raise Refused(422, "invalid_input", "invalid input in field 'public_key'", "public_key")
        digest = hashlib.md5(words[1].encode()).hexdigest()
        if any(one["public_key"].split()[1] == words[1] for one in call.account.all("ssh_keys")):
            raise Refused(409, "uniqueness_error", "SSH key with the same fingerprint already exists", "public_key")
        return {
            **thing,
            "name": call.body["name"],
            "public_key": call.body["public_key"],
            "fingerprint": ":".join(digest[n : n + 2] for n in range(0, 32, 2)),
            "labels": call.body.get("labels", {}),
            "created": self.clock.stamp(),
        }

    def make_firewalls(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        firewall = {
            **thing,
            "name": call.body["name"],
            "labels": call.body.get("labels", {}),
            "rules": self.rules(call),
            "applied_to": [],
            "created": self.clock.stamp(),
        }
        for target in call.body.get("apply_to", []):
            self.apply(call.account, firewall, target)
        return firewall

    @staticmethod
    def rules(call: Call) -> list[Thing]:
        rules = []
        for rule in call.body.get("rules", []):
            side = "source_ips" if rule["direction"] == "in" else "destination_ips"
            if rule["protocol"] in ("tcp", "udp") and not rule.get("port"):
                raise Refused(422, "invalid_input", "port is required for tcp and udp", "rules")
            if not rule.get(side):
                raise Refused(422, "invalid_input", f"{side} is required", "rules")
            for part in rule[side]:
                if "/" not in part:
                    raise Refused(422, "invalid_input", f"{part} is no CIDR block", "rules")
            rules.append({"description": None, "port": None, "source_ips": [], "destination_ips": [], **rule})
        return rules

    def apply(self, account: Account, firewall: Thing, target: Thing) -> None:
        if any(one["type"] == target["type"] and one.get(target["type"]) == target[target["type"]]
               for one in firewall["applied_to"]):  # fmt: skip
            raise Refused(422, "firewall_already_applied", "firewall is already applied to resource")
        if target["type"] == "server":
            server = account.find("servers", target["server"]["id"])
            server["public_net"]["firewalls"].append({"id": firewall["id"], "status": "applied"})
        firewall["applied_to"].append(dict(target))

    def drop_firewalls(self, account: Account, thing: Thing) -> None:
        if thing["applied_to"]:
            raise Refused(422, "resource_in_use", "firewall is still applied to a resource")

    @on("POST", "/firewalls/{key}/actions/set_rules", body={"rules!": [RULE]})
    def set_rules(self, call: Call, key: str) -> Answer:
        call.account.find("firewalls", key)["rules"] = self.rules(call)
        call.account.version += 1
        return Answer(201, {"actions": [self.action(call.account, "set_firewall_rules")]})

    @on("POST", "/firewalls/{key}/actions/apply_to_resources", body={"apply_to!": [TARGET]})
    def apply_to_resources(self, call: Call, key: str) -> Answer:
        for target in call.body["apply_to"]:
            self.apply(call.account, call.account.find("firewalls", key), target)
        call.account.version += 1
        return Answer(201, {"actions": [self.action(call.account, "apply_firewall")]})

    @on("POST", "/firewalls/{key}/actions/remove_from_resources", body={"remove_from!": [TARGET]})
    def remove_from_resources(self, call: Call, key: str) -> Answer:
        firewall = call.account.find("firewalls", key)
        for target in call.body["remove_from"]:
            firewall["applied_to"] = [
                one for one in firewall["applied_to"] if one.get(target["type"]) != target[target["type"]]
            ]
            if target["type"] == "server":
                net = call.account.find("servers", target["server"]["id"])["public_net"]
                net["firewalls"] = [one for one in net["firewalls"] if one["id"] != firewall["id"]]
        call.account.version += 1
        return Answer(201, {"actions": [self.action(call.account, "remove_firewall")]})

    def was_created(self, call: Call, kind: Kind, thing: Thing) -> Answer:
        more = {"firewalls": {"actions": []}}.get(kind.name, {})
        return Answer(201, {kind.one: thing, **more})

    # -- volumes ------------------------------------------------------------------------------------------------------

    @on("POST", "/volumes", body={
        "name!": str, "size!": int, "server": int, "location": str, "format": {"ext4", "xfs"}, "automount": bool,
        "labels": LABELS,
    })  # fmt: skip
    def create_volume(self, call: Call) -> Answer:
        body, account = call.body, call.account
        if ("server" in body) == ("location" in body):
            raise Refused(422, "invalid_input", "either server or location must be given", "location")
        if not 10 <= body["size"] <= 10240:
            raise Refused(422, "invalid_input", "size must be from 10 to 10240", "size")
        if any(one["name"] == body["name"] for one in account.all("volumes")):
            raise Refused(409, "uniqueness_error", "volume name is already used", "name")
        server = account.find("servers", body["server"]) if "server" in body else None
        place = server["location"] if server else self.named(call, "locations", body["location"], "location")
        number = next(self.numbers)
        volume = {
            "id": number,
            "name": body["name"],
            "server": None,
            "location": place,
            "size": body["size"],
            "linux_device": f"/dev/disk/by-id/scsi-0HC_Volume_{number}",
            "protection": {"delete": False},
            "labels": body.get("labels", {}),
            "status": "creating",
            "created": self.clock.stamp(),
            "format": body.get("format"),
        }
        account.put("volumes", volume)
        self.in_time(account, lambda: volume.update(status="available"))
        steps = []
        if server:
            self.attach(server, volume)
            steps.append(self.action(account, "attach_volume", server["id"]))
        return Answer(201, {"volume": volume, "action": self.action(account, "create_volume"), "next_actions": steps})

    @staticmethod
    def attach(server: Thing, volume: Thing) -> None:
        if volume["server"]:
            raise Refused(422, "invalid_input", "volume is already attached to a server")
        if volume["location"]["name"] != server["location"]["name"]:
            raise Refused(422, "invalid_input", "volume and server must be in the same location")
        volume["server"] = server["id"]
        server["volumes"].append(volume["id"])

    def drop_volumes(self, account: Account, thing: Thing) -> None:
        if thing["server"]:
            raise Refused(422, "invalid_input", "volume is attached to a server")

    @on("POST", "/volumes/{key}/actions/attach", body={"server!": int, "automount": bool})
    def attach_volume(self, call: Call, key: str) -> Answer:
        server = call.account.find("servers", call.body["server"])
        self.attach(server, call.account.find("volumes", key))
        return self.acted(call, "attach_volume", server)

    @on("POST", "/volumes/{key}/actions/detach")
    def detach_volume(self, call: Call, key: str) -> Answer:
        volume = call.account.find("volumes", key)
        if not volume["server"]:
            raise Refused(422, "invalid_input", "volume is not attached to a server")
        server = call.account.find("servers", volume["server"])
        server["volumes"].remove(volume["id"])
        volume["server"] = None
        return self.acted(call, "detach_volume", server)

    @on("POST", "/volumes/{key}/actions/resize", body={"size!": int})
    def resize_volume(self, call: Call, key: str) -> Answer:
        volume = call.account.find("volumes", key)
        if call.body["size"] < volume["size"]:
            raise Refused(422, "invalid_input", "volumes can not be made smaller", "size")
        volume["size"] = call.body["size"]
        return self.acted(call, "resize_volume")

    # -- load balancers -----------------------------------------------------------------------------------------------

    @on("POST", "/load_balancers", body={
        "name!": str, "load_balancer_type!": (str, int), "location": str, "network_zone": str, "labels": LABELS,
        "algorithm": {"type!": {"round_robin", "least_connections"}}, "services": [SERVICE], "targets": [LB_TARGET],
        "public_interface": bool, "network": int,
    })  # fmt: skip
    def create_balancer(self, call: Call) -> Answer:
        body, account = call.body, call.account
        if ("location" in body) == ("network_zone" in body):
            raise Refused(422, "invalid_input", "either location or network_zone must be given", "location")
        if any(one["name"] == body["name"] for one in account.all("load_balancers")):
            raise Refused(409, "uniqueness_error", "load balancer name is already used", "name")
        kind = self.named(call, "load_balancer_types", body["load_balancer_type"], "load_balancer_type")
        four, six = self.new_address()
        balancer = {
            "id": next(self.numbers),
            "name": body["name"],
            "public_net": {
                "enabled": body.get("public_interface", True),
                "ipv4": {"ip": four, "dns_ptr": f"lb.{four}.test"},
                "ipv6": {"ip": six, "dns_ptr": None},
            },
            "private_net": [],
            "location": self.named(call, "locations", body.get("location", "fsn1"), "location"),
            "load_balancer_type": kind,
            "protection": {"delete": False},
            "labels": body.get("labels", {}),
            "created": self.clock.stamp(),
            "services": body.get("services", []),
            "targets": [],
            "algorithm": body.get("algorithm", {"type": "round_robin"}),
            "outgoing_traffic": None,
            "ingoing_traffic": None,
            "included_traffic": 20 * 1024**4,
        }
        if "network" in body:
            self.plug_balancer(account, balancer, account.find("networks", body["network"]))
        for target in body.get("targets", []):
            self.aim(account, balancer, target)
        account.put("load_balancers", balancer)
        return Answer(201, {"load_balancer": balancer, "action": self.action(account, "create_load_balancer")})

    def plug_balancer(self, account: Account, balancer: Thing, network: Thing, wish: str | None = None) -> None:
        address = self.free_ip(account, network, wish)
        balancer["private_net"].append({"network": network["id"], "ip": address})
        network["load_balancers"].append(balancer["id"])

    def aim(self, account: Account, balancer: Thing, target: Thing) -> None:
        private = target.get("use_private_ip", False)
        if private and not balancer["private_net"]:
            raise Refused(422, "load_balancer_not_attached_to_network", "load balancer is not attached to a network")
        if target["type"] == "server":
            server = account.find("servers", target["server"]["id"])
            networks = {one["network"] for one in balancer["private_net"]}
            if private and not networks & {one["network"] for one in server["private_net"]}:
                raise Refused(422, "server_not_attached_to_network", "server is not attached to the same network")
            if not private and not server["public_net"]["ipv4"]:
                raise Refused(422, "missing_ipv4", "the server has no public IPv4 address")
        if any(one.get(target["type"]) == target[target["type"]] for one in balancer["targets"]):
            raise Refused(422, "target_already_defined", "target is already defined")
        balancer["targets"].append({"use_private_ip": False, **target, "health_status": []})

    @on("POST", "/load_balancers/{key}/actions/add_target", body=LB_TARGET)
    def add_target(self, call: Call, key: str) -> Answer:
        self.aim(call.account, call.account.find("load_balancers", key), call.body)
        return self.acted(call, "add_target")

    @on("POST", "/load_balancers/{key}/actions/remove_target", body=LB_TARGET)
    def remove_target(self, call: Call, key: str) -> Answer:
        balancer, word = call.account.find("load_balancers", key), call.body["type"]
        balancer["targets"] = [one for one in balancer["targets"] if one.get(word) != call.body[word]]
        return self.acted(call, "remove_target")

    @on("POST", "/load_balancers/{key}/actions/add_service", body=SERVICE)
    def add_service(self, call: Call, key: str) -> Answer:
        balancer = call.account.find("load_balancers", key)
        if any(one["listen_port"] == call.body["listen_port"] for one in balancer["services"]):
            raise Refused(409, "source_port_already_used", "the listen port is already used")
        balancer["services"].append(call.body)
        return self.acted(call, "add_service")

    @on("POST", "/load_balancers/{key}/actions/update_service", body={
        **{name.rstrip("!"): shape for name, shape in SERVICE.items()}, "listen_port!": int,
    })  # fmt: skip
    def update_service(self, call: Call, key: str) -> Answer:
        for service in call.account.find("load_balancers", key)["services"]:
            if service["listen_port"] == call.body["listen_port"]:
                service.update(call.body)
                return self.acted(call, "update_service")
        raise Refused(404, "not_found", "service not found")

    @on("POST", "/load_balancers/{key}/actions/delete_service", body={"listen_port!": int})
    def delete_service(self, call: Call, key: str) -> Answer:
        balancer = call.account.find("load_balancers", key)
        balancer["services"] = [one for one in balancer["services"] if one["listen_port"] != call.body["listen_port"]]
        return self.acted(call, "delete_service")

    @on("POST", "/load_balancers/{key}/actions/attach_to_network", body={
        "network!": int, "ip": str, "ip_range": str,
    })  # fmt: skip
    def attach_balancer(self, call: Call, key: str) -> Answer:
        balancer = call.account.find("load_balancers", key)
        network = call.account.find("networks", call.body["network"])
        self.plug_balancer(call.account, balancer, network, call.body.get("ip"))
        return self.acted(call, "attach_to_network")

    # -- DNS ----------------------------------------------------------------------------------------------------------

    def zone(self, account: Account, key: str) -> Thing:
        for zone in account.all("zones"):
            if key in (str(zone["id"]), zone["name"]):
                return zone
        raise Refused(404, "not_found", "zone not found")

    @on("GET", "/zones", {**LISTED, "mode": {"primary", "secondary"}}, paged=True)
    def zones(self, call: Call) -> Answer:
        return self.list_answer(call, "zones", self.filtered(call, None, call.account.all("zones")))

    @on("GET", "/zones/{key}")
    def one_zone(self, call: Call, key: str) -> Answer:
        return Answer(200, {"zone": self.zone(call.account, key)})

    @on("POST", "/zones", body={
        "name!": str, "mode!": {"primary", "secondary"}, "ttl": int, "labels": LABELS, "rrsets": [RRSET],
        "zonefile": str, "primary_nameservers": [{"address!": str, "port": int}],
    })  # fmt: skip
    def create_zone(self, call: Call) -> Answer:
        body = call.body
        if any(one["name"] == body["name"] for one in call.account.all("zones")):
            raise Refused(409, "uniqueness_error", "zone name is already used", "name")
        zone = {
            "id": next(self.numbers),
            "name": body["name"],
            "mode": body["mode"],
            "ttl": body.get("ttl", 3600),
            "status": "ok",
            "labels": body.get("labels", {}),
            "protection": {"delete": False},
            "record_count": 0,
            "registrar": "other",
            "authoritative_nameservers": {
                "assigned": ["hydrogen.ns.hetzner.com."],
                "delegated": [],
                "delegation_last_check": None,
                "delegation_status": "unknown",
            },
            "primary_nameservers": [],
            "created": self.clock.stamp(),
        }
        call.account.put("zones", zone)
        for rrset in body.get("rrsets", []):
            self.put_rrset(call.account, zone, rrset)
        return Answer(201, {"zone": zone, "action": self.action(call.account, "create_zone")})

    def put_rrset(self, account: Account, zone: Thing, body: Thing) -> Thing:
        rrset = {
            "id": f"{body['name']}/{body['type']}",
            "name": body["name"],
            "type": body["type"],
            "ttl": body.get("ttl"),
            "labels": body.get("labels", {}),
            "protection": {"change": False},
            "records": [{"comment": "", **one} for one in body["records"]],
            "zone": zone["id"],
        }
        return account.put("rrsets", rrset, key=(zone["id"], rrset["id"]))

    @on(
        "GET", "/zones/{key}/rrsets", {"name": str, "type": [RECORDS], "label_selector": str, "sort": [str]}, paged=True
    )
    def rrsets(self, call: Call, key: str) -> Answer:
        zone = self.zone(call.account, key)
        things = [one for one in call.account.all("rrsets") if one["zone"] == zone["id"]]
        return self.list_answer(call, "rrsets", self.filtered(call, None, things))

    @on("POST", "/zones/{key}/rrsets", body=RRSET)
    def create_rrset(self, call: Call, key: str) -> Answer:
        zone = self.zone(call.account, key)
        if (zone["id"], f"{call.body['name']}/{call.body['type']}") in call.account.stock.get("rrsets", {}):
            raise Refused(409, "uniqueness_error", "RRSet already exists", "name")
        rrset = self.put_rrset(call.account, zone, call.body)
        return Answer(201, {"rrset": rrset, "action": self.action(call.account, "create_rrset")})

    def rrset(self, call: Call, key: str, name: str, kind: str) -> Thing:
        return call.account.find("rrsets", (self.zone(call.account, key)["id"], f"{name}/{kind}"))

    @on("GET", "/zones/{key}/rrsets/{name}/{kind}")
    def one_rrset(self, call: Call, key: str, name: str, kind: str) -> Answer:
        return Answer(200, {"rrset": self.rrset(call, key, name, kind)})

    @on("POST", "/zones/{key}/rrsets/{name}/{kind}/actions/set_records", body={
        "records!": [{"value!": str, "comment": str}],
    })  # fmt: skip
    def set_records(self, call: Call, key: str, name: str, kind: str) -> Answer:
        self.rrset(call, key, name, kind)["records"] = [{"comment": "", **one} for one in call.body["records"]]
        return self.acted(call, "set_rrset_records")

    @on("POST", "/zones/{key}/rrsets/{name}/{kind}/actions/change_ttl", body={"ttl!": (int, None)})
    def change_ttl(self, call: Call, key: str, name: str, kind: str) -> Answer:
        self.rrset(call, key, name, kind)["ttl"] = call.body["ttl"]
        return self.acted(call, "change_rrset_ttl")

    @on("DELETE", "/zones/{key}/rrsets/{name}/{kind}")
    def delete_rrset(self, call: Call, key: str, name: str, kind: str) -> Answer:
        self.rrset(call, key, name, kind)
        call.account.drop("rrsets", (self.zone(call.account, key)["id"], f"{name}/{kind}"))
        return self.acted(call, "delete_rrset")

    @on("DELETE", "/zones/{key}")
    def delete_zone(self, call: Call, key: str) -> Answer:
        call.account.drop("zones", self.zone(call.account, key)["id"])
        return self.acted(call, "delete_zone")

    # -- prices -------------------------------------------------------------------------------------------------------

    @on("GET", "/pricing")
    def pricing(self, call: Call) -> Answer:
        def _amount(net: float) -> dict[str, str]:
            return {"net": f"{net:.10f}", "gross": f"{net * 1.19:.10f}"}

        def _each(kind: str) -> list[Thing]:
            return [{name: one[name] for name in ("id", "name", "prices")} for one in self.catalog[kind]]

        addresses = [
            {
                "type": word,
                "prices": [
                    {"location": place, "price_hourly": _amount(net / 624), "price_monthly": _amount(net)}
                    for place in LOCATIONS
                ],
            }
            for word, net in (("ipv4", 0.5), ("ipv6", 0.0))
        ]
        floating = [
            {"type": word, "prices": [{"location": place, "price_monthly": _amount(3.0)} for place in LOCATIONS]}
            for word in ("ipv4", "ipv6")
        ]
        return Answer(200, {
            "pricing": {
                "currency": "EUR",
                "vat_rate": "19.000000",
                "image": {"price_per_gb_month": _amount(0.011)},
                "floating_ip": {"price_monthly": _amount(3.0)},
                "floating_ips": floating,
                "primary_ips": addresses,
                "server_backup": {"percentage": "20.00"},
                "volume": {"price_per_gb_month": _amount(0.044)},
                "server_types": _each("server_types"),
                "load_balancer_types": _each("load_balancer_types"),
            }
        })  # fmt: skip

"""Vultr, API v2, with `vpcs` on instances and Retry-After as the documents of 2026 have them."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import uuid
from typing import Any

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Refused, Shape, Thing, Whole, on, without
from tests.cloud.fleet import NETWORK, Machine

REGIONS = {"fra": "Frankfurt", "ams": "Amsterdam", "ewr": "New Jersey", "sgp": "Singapore"}
# Id: processors, memory, disk, dollars a month.
PLANS = {"vc2-1c-1gb": (1, 1024, 25, 5), "vc2-2c-4gb": (2, 4096, 80, 20), "vhf-4c-16gb": (4, 16384, 384, 96)}
METAL = {"vbm-4c-32gb": (4, 32768, 240, 120)}
SYSTEMS = {2625: "Debian 13 x64 (trixie)", 2136: "Debian 12 x64 (bookworm)", 2284: "Ubuntu 24.04 LTS x64"}
WORDS = {
    "running": {"status": "active", "power_status": "running", "server_status": "ok"},
    "stopped": {"status": "active", "power_status": "stopped", "server_status": "ok"},
    "pending": {"status": "pending", "power_status": "running", "server_status": "none", "main_ip": "0.0.0.0"},
}


IMAGES = ("os_id", "iso_id", "snapshot_id", "app_id", "image_id")
BASE64 = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
INSTANCE: Shape = {
    "region!": str,
    "plan!": str,
    "os_id": int,
    "ipxe_chain_url": str,
    "iso_id": str,
    "script_id": str,
    "snapshot_id": str,
    "enable_ipv6": bool,
    "disable_public_ipv4": bool,
    "attach_vpc": [str],
    "enable_vpc": bool,
    "label": str,
    "hostname": str,
    "sshkey_id": [str],
    "backups": {"enabled", "disabled"},
    "app_id": int,
    "image_id": str,
    "user_data": BASE64,
    "ddos_protection": bool,
    "activation_email": bool,
    "firewall_group_id": str,
    "reserved_ipv4": str,
    "tags": [str],
    "user_scheme": {"root", "limited"},
}
CHANGE: Shape = {
    "label": str,
    "tags": [str],
    "plan": str,
    "firewall_group_id": str,
    "attach_vpc": [str],
    "detach_vpc": [str],
    "enable_ipv6": bool,
    "enable_vpc": bool,
    "user_data": BASE64,
    "backups": {"enabled", "disabled"},
    "ddos_protection": bool,
    "os_id": (str, int),
    "app_id": int,
    "image_id": str,
    "user_scheme": {"root", "limited"},
}
BALANCER: Shape = {
    "region": str,
    "label": str,
    "balancing_algorithm": {"roundrobin", "leastconn"},
    "ssl_redirect": bool,
    "http2": bool,
    "proxy_protocol": bool,
    "health_check": {
        "protocol": {"http", "https", "tcp"},
        "port": int,
        "path": str,
        "check_interval": int,
        "response_timeout": int,
        "unhealthy_threshold": int,
        "healthy_threshold": int,
    },
    "forwarding_rules": [
        {
            "frontend_protocol": {"http", "https", "tcp", "HTTP", "HTTPS", "TCP"},
            "frontend_port": int,
            "backend_protocol": {"http", "https", "tcp", "HTTP", "HTTPS", "TCP"},
            "backend_port": int,
        }
    ],
    "sticky_session": {"cookie_name": str},
    "ssl": {"private_key": str, "certificate": str, "chain": str},
    "instances": [str],
    "firewall_rules": [{"port": int, "source": str, "ip_type": {"v4", "v6"}}],
    "vpc": str,
}


class Vultr(Api):
    name, prefix = "vultr", "/vultr/v2"
    list_path, list_key, second_path = "/instances", "instances", "/bare-metals"
    server_kinds = ("instances", "bare_metals")
    paging = {"per_page": Whole(1, 500), "cursor": str}
    size_default, size_most = 100, 500
    kinds: tuple[Kind, ...] = (
        Kind(
            "vpcs",
            "/vpcs",
            "vpc",
            {"region!": str, "description": str, "v4_subnet": str, "v4_subnet_mask": int},
            {"description!": str},
        ),
        Kind(
            "ssh_keys",
            "/ssh-keys",
            "ssh_key",
            {"name!": str, "ssh_key!": str},
            {"name": str, "ssh_key": str},
            change_by="PATCH",
        ),
        Kind(
            "blocks",
            "/blocks",
            "block",
            {"region!": str, "size_gb!": int, "label": str, "block_type": {"high_perf", "storage_opt"}},
            {"label": str, "size_gb": int},
            change_by="PATCH",
            created=202,
        ),
        Kind("firewall_groups", "/firewalls", "firewall_group", {"description": str}, {"description!": str}),
        Kind("load_balancers", "/load-balancers", "load_balancer", {**BALANCER, "region!": str}, None, created=202),
        Kind(
            "snapshots",
            "/snapshots",
            "snapshot",
            {"instance_id!": str, "description": str},
            {"description!": str},
            exact=("description",),
        ),
        Kind("regions", "/regions", deletable=False),
        Kind("plans", "/plans", query={"type": str, "os": str}, exact=("type",), deletable=False),
        Kind("plans_metal", "/plans-metal", deletable=False),
        Kind("os", "/os", deletable=False),
    )

    # -- manners ------------------------------------------------------------------------------------------------------

    def make_token(self, account: str) -> str:
        return hashlib.sha256(f"vultr {account}".encode()).hexdigest()[:36].upper()

    def new_id(self, kind: str) -> str:
        number = next(self.numbers)
        name = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{number}.{kind}.test"))
        self.order[name] = number
        return name

    def changed(self, kind: Kind, thing: Thing) -> Answer:
        return Answer(204)

    def fresh_limits(self) -> list[Limit]:
        return [Limit(30, 1)]

    def over_limit(self, limit: Limit) -> Answer:
        return Answer(429, {"error": "Rate limit reached - please try your request again later", "status": 429},
                      {"Retry-After": "1"})  # fmt: skip

    def error(self, status: int, code: str, message: str, field: str | None = None) -> Answer:
        return Answer(status, {"error": message, "status": status})

    def bad_token(self) -> Answer:
        return self.error(401, "", "Invalid API token.")

    def no_scope(self) -> Answer:
        return self.error(401, "", "Unauthorized IP address: 127.0.0.1")

    def read_only(self) -> Answer:
        return self.error(403, "", "Forbidden.")

    def list_answer(self, call: Call, key: str, things: list[Thing]) -> Answer:
        """A cursor names the thing that a page begins with; one that is gone meanwhile, the next."""
        size = self.page_size(call)
        cursor, places = call.one("cursor"), [str(self.place(thing)) for thing in things]
        begin = 0
        if cursor:
            try:
                word, _, place = base64.b64decode(cursor, validate=True).decode().partition("__")
            except ValueError:
                word, place = "", ""
            if word not in ("next", "prev"):
                call.problems.append(f"the cursor {cursor!r} is none of ours")
                raise Refused(400, "", "Invalid cursor.")
            begin = next((n for n, known in enumerate(places) if known.zfill(9) >= place.zfill(9)), len(things))

        def _cursor(word: str, number: int) -> str:
            return base64.b64encode(f"{word}__{places[number]}".encode()).decode()

        links = {
            "next": _cursor("next", begin + size) if begin + size < len(things) else "",
            "prev": _cursor("prev", max(begin - size, 0)) if begin and things else "",
        }
        return Answer(200, {key: things[begin : begin + size], "meta": {"total": len(things), "links": links}})

    def place(self, thing: Thing) -> Any:
        """Where a thing stands in its list: the number that is in its id."""
        return self.order.get(thing["id"], 0)

    # -- what there is ------------------------------------------------------------------------------------------------

    def make_catalog(self) -> dict[str, list[Thing]]:
        self.order: dict[Any, int] = {}
        regions = [
            {"id": key, "city": city, "country": "XX", "continent": "Europe", "options": ["kubernetes"]}
            for key, city in REGIONS.items()
        ]
        plans = [
            {
                "id": key,
                "vcpu_count": cpus,
                "ram": ram,
                "disk": disk,
                "disk_count": 1,
                "bandwidth": 1024,
                "monthly_cost": dollars,
                "type": key.partition("-")[0],
                "locations": list(REGIONS),
            }
            for key, (cpus, ram, disk, dollars) in PLANS.items()
        ]
        metal = [
            {
                "id": key,
                "cpu_count": cpus,
                "cpu_threads": 2 * cpus,
                "cpu_model": "E3-1270v6",
                "ram": ram,
                "disk": disk,
                "disk_count": 2,
                "bandwidth": 5120,
                "monthly_cost": dollars,
                "type": "SSD",
                "locations": list(REGIONS),
            }
            for key, (cpus, ram, disk, dollars) in METAL.items()
        ]
        systems = [{"id": key, "name": name, "arch": "x64", "family": "debian"} for key, name in SYSTEMS.items()]
        catalog = {"regions": regions, "plans": plans, "plans_metal": metal, "os": systems}
        for things in catalog.values():
            self.order.update({thing["id"]: number for number, thing in enumerate(things)})
        return catalog

    def fill(self, account: Account, machines: list[Machine]) -> None:
        for one in machines:
            kind = "bare_metals" if one.special == "metal" else "instances"
            thing = self.rendered(account, one)
            self.order[thing["id"]] = one.number
            account.put(kind, thing)

    def vpc_of(self, account: Account, region: str) -> Thing:
        for known in account.all("vpcs"):
            if known["region"] == region:
                return known
        vpc = {
            "id": self.new_id("vpcs"),
            "region": region,
            "date_created": "2024-01-01T00:00:00+00:00",
            "description": f"{NETWORK}-{region}",
            "v4_subnet": "10.0.0.0",
            "v4_subnet_mask": 8,
        }
        return account.put("vpcs", vpc)

    def rendered(self, account: Account, one: Machine) -> Thing:
        plans = self.catalog["plans_metal" if one.special == "metal" else "plans"]
        region = list(REGIONS)[one.place % len(REGIONS)]
        make = self.make_metal if one.special == "metal" else self.make_instance
        thing = make(
            str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{one.number}.instances.{account.name}.test")),
            label=one.name,
            plan=plans[one.place % len(plans)],
            region=region,
            system=self.catalog["os"][one.place % len(SYSTEMS)],
            created=one.created.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            tags=one.words(),
            ipv4=one.public_ipv4,
            ipv6=one.public_ipv6,
        )
        words = WORDS.get(one.status, {"status": one.status})
        thing.update({name: value for name, value in words.items() if name in thing})
        if one.private_ipv4 and "vpcs" in thing:
            vpc = self.vpc_of(account, region)
            thing["vpcs"].append({"id": vpc["id"], "version": 1, "subnet": one.private_ipv4})
            thing["internal_ip"] = one.private_ipv4
        if one.change:
            one.change(thing)
        return thing

    @staticmethod
    def make_instance(
        number: str,
        label: str,
        plan: Thing,
        region: str,
        system: Thing,
        created: str,
        tags: list[str],
        ipv4: str | None,
        ipv6: str | None,
        hostname: str = "",
    ) -> Thing:
        network = ipv6.rpartition("::")[0] + "::" if ipv6 else ""
        return {
            "id": number,
            "os": system["name"],
            "ram": plan["ram"],
            "disk": plan["disk"],
            "main_ip": ipv4 or "",
            "vcpu_count": plan["vcpu_count"],
            "region": region,
            "plan": plan["id"],
            "date_created": created,
            "status": "active",
            "allowed_bandwidth": 1024,
            "netmask_v4": "255.255.254.0" if ipv4 else "",
            "gateway_v4": ipv4.rpartition(".")[0] + ".1" if ipv4 else "",
            "power_status": "running",
            "server_status": "ok",
            "v6_network": network,
            "v6_main_ip": ipv6 or "",
            "v6_network_size": 64 if ipv6 else 0,
            "label": label,
            "internal_ip": "",
            "kvm": "https://my.vultr.test/subs/vps/novnc/api.php?data=1",
            "hostname": hostname or label or "vultr-guest",
            "os_id": system["id"],
            "app_id": 0,
            "image_id": "",
            "snapshot_id": "",
            "firewall_group_id": "",
            "features": ["ipv6"] if ipv6 else [],
            "tags": tags,
            "tag": tags[0] if tags else "",
            "user_scheme": "root",
            "vpcs": [],
            "vpc_only": False,
            "pending_charges": 0.5,
        }

    @staticmethod
    def make_metal(
        number: str,
        label: str,
        plan: Thing,
        region: str,
        system: Thing,
        created: str,
        tags: list[str],
        ipv4: str | None,
        ipv6: str | None,
    ) -> Thing:
        return {
            "id": number,
            "os": system["name"],
            "ram": f"{plan['ram']} MB",
            "disk": f"2x {plan['disk']}GB SSD",
            "main_ip": ipv4 or "",
            "cpu_count": plan["cpu_count"],
            "region": region,
            "date_created": created,
            "status": "active",
            "netmask_v4": "255.255.254.0",
            "gateway_v4": ipv4.rpartition(".")[0] + ".1" if ipv4 else "",
            "plan": plan["id"],
            "v6_network": ipv6.rpartition("::")[0] + "::" if ipv6 else "",
            "v6_main_ip": ipv6 or "",
            "v6_network_size": 64 if ipv6 else 0,
            "label": label,
            "mac_address": 2199756823533,
            "os_id": system["id"],
            "app_id": 0,
            "image_id": "",
            "features": ["ipv6"] if ipv6 else [],
            "tags": tags,
            "tag": tags[0] if tags else "",
        }

    FILTERS = ("label", "main_ip", "region", "hostname", "firewall_group_id")

    @on("GET", "/instances", {**dict.fromkeys([*FILTERS, "tag", "show_pending_charges"], str)}, paged=True)
    def instances(self, call: Call) -> Answer:
        things = call.account.all("instances")
        for word in self.FILTERS:
            if word in call.query:
                things = [thing for thing in things if thing[word] == call.one(word)]
        if "tag" in call.query:
            call.problems.append("the filter tag is deprecated")
            things = [thing for thing in things if call.one("tag") in thing["tags"]]
        return self.list_answer(call, "instances", things)

    @on("GET", "/instances/{key}")
    def instance(self, call: Call, key: str) -> Answer:
        return Answer(200, {"instance": call.account.find("instances", key)})

    @on("GET", "/bare-metals", paged=True)
    def metals(self, call: Call) -> Answer:
        return self.list_answer(call, "bare_metals", call.account.all("bare_metals"))

    # -- instances -----------------------------------------------------------------------------------------------------

    @on("POST", "/instances", body=INSTANCE)
    def create_instance(self, call: Call) -> Answer:
        body, account = call.body, call.account
        plan, region = self.known("plans", body["plan"], "plan"), self.known("regions", body["region"], "region")
        chosen = [word for word in IMAGES if word in body]
        if len(chosen) != 1:
            raise Refused(400, "", f"Exactly one of {', '.join(IMAGES)} must be given.")
        system = self.catalog["os"][0]
        if "os_id" in body:
            system = self.known("os", body["os_id"], "os_id")
        elif "snapshot_id" in body:
            account.find("snapshots", body["snapshot_id"])
        for key in body.get("sshkey_id", []):
            account.find("ssh_keys", key)
        if body.get("firewall_group_id"):
            account.find("firewall_groups", body["firewall_group_id"])
        vpcs = [account.find("vpcs", key) for key in body.get("attach_vpc", [])]
        if any(vpc["region"] != region["id"] for vpc in vpcs):
            raise Refused(400, "", "The VPC is in another region.")
        four, six = self.new_address()
        instance = self.make_instance(
            self.new_id("instances"),
            label=body.get("label", ""),
            plan=plan,
            region=region["id"],
            system=system,
            created=self.clock.stamp(),
            tags=list(body.get("tags", [])),
            ipv4=None if body.get("disable_public_ipv4") else four,
            ipv6=six if body.get("enable_ipv6") else None,
            hostname=body.get("hostname", ""),
        )
        instance["firewall_group_id"] = body.get("firewall_group_id", "")
        instance["snapshot_id"] = body.get("snapshot_id", "")
        for vpc in vpcs:
            self.plug(account, instance, vpc)
        ready = {name: instance[name] for name in ("main_ip", "v6_main_ip")}
        instance |= {"status": "pending", "server_status": "none", "main_ip": "0.0.0.0", "v6_main_ip": ""}
        account.put("instances", instance)
        account.put("first_boots", {"user_data": body.get("user_data"), "ssh_keys": body.get("sshkey_id", [])},
                    instance["id"])  # fmt: skip
        self.in_time(account, lambda: instance.update(ready, status="active", server_status="ok"))
        # The password is in this one answer only.
        return Answer(202, {"instance": {**instance, "default_password": "not-a-real-password"}})

    def known(self, kind: str, key: Any, field: str) -> Thing:
        for one in self.catalog[kind]:
            if one["id"] == key:
                return one
        raise Refused(400, "", f"Invalid {field}.")

    @staticmethod
    def plug(account: Account, instance: Thing, vpc: Thing) -> None:
        part = ipaddress.ip_network(f"{vpc['v4_subnet']}/{vpc['v4_subnet_mask']}")
        taken = {one["subnet"] for thing in account.all("instances") for one in thing["vpcs"] if one["id"] == vpc["id"]}
        address = next(str(part[n]) for n in range(3, part.num_addresses) if str(part[n]) not in taken)
        instance["vpcs"].append({"id": vpc["id"], "version": 1, "subnet": address})
        instance["internal_ip"] = instance["internal_ip"] or address
        account.version += 1

    @on("PATCH", "/instances/{key}", body=CHANGE)
    def change_instance(self, call: Call, key: str) -> Answer:
        instance, body = call.account.find("instances", key), dict(call.body)
        for vpc in body.pop("attach_vpc", []):
            self.plug(call.account, instance, call.account.find("vpcs", vpc))
        for vpc in body.pop("detach_vpc", []):
            instance["vpcs"] = [one for one in instance["vpcs"] if one["id"] != vpc]
        if "plan" in body:
            plan = self.known("plans", body["plan"], "plan")
            if plan["disk"] < instance["disk"]:
                raise Refused(400, "", "Unable to change plan: downgrading is not supported.")
            instance.update(ram=plan["ram"], disk=plan["disk"], vcpu_count=plan["vcpu_count"])
        if body.get("firewall_group_id"):
            call.account.find("firewall_groups", body["firewall_group_id"])
        instance.update({name: value for name, value in body.items() if name in instance})
        call.account.version += 1
        return Answer(202, {"instance": instance})

    @on("DELETE", "/instances/{key}")
    def delete_instance(self, call: Call, key: str) -> Answer:
        call.account.drop("instances", key)
        for block in call.account.all("blocks"):
            if block["attached_to_instance"] == key:
                block["attached_to_instance"] = ""
        for balancer in call.account.all("load_balancers"):
            balancer["instances"] = [one for one in balancer["instances"] if one != key]
        return Answer(204)

    @on("POST", "/instances/{key}/{command}")
    def power(self, call: Call, key: str, command: str) -> Answer:
        after = {"start": "running", "reboot": "running", "halt": "stopped"}
        if command not in after:
            call.problems.append(f"there is no command {command} of instances here")
            raise Refused(404, "", "Not found.")
        instance = call.account.find("instances", key)
        self.in_time(call.account, lambda: instance.update(power_status=after[command]))
        return Answer(204)

    @on("GET", "/instances/{key}/user-data")
    def user_data(self, call: Call, key: str) -> Answer:
        call.account.find("instances", key)
        boot = call.account.stock.get("first_boots", {}).get(key, {})
        return Answer(200, {"user_data": {"data": boot.get("user_data") or ""}})

    @on("POST", "/instances/{key}/vpcs/attach", body={"vpc_id!": str})
    def attach_vpc(self, call: Call, key: str) -> Answer:
        instance, vpc = call.account.find("instances", key), call.account.find("vpcs", call.body["vpc_id"])
        if any(one["id"] == vpc["id"] for one in instance["vpcs"]):
            raise Refused(400, "", "This VPC is already attached.")
        self.plug(call.account, instance, vpc)
        return Answer(204)

    @on("POST", "/instances/{key}/vpcs/detach", body={"vpc_id!": str})
    def detach_vpc(self, call: Call, key: str) -> Answer:
        instance = call.account.find("instances", key)
        instance["vpcs"] = [one for one in instance["vpcs"] if one["id"] != call.body["vpc_id"]]
        call.account.version += 1
        return Answer(204)

    @on("GET", "/instances/{key}/vpcs", paged=True)
    def vpcs_of(self, call: Call, key: str) -> Answer:
        things = [
            {"id": one["id"], "mac_address": "5a:00:00:00:00:01", "ip_address": one["subnet"]}
            for one in call.account.find("instances", key)["vpcs"]
        ]
        return self.list_answer(call, "vpcs", things)

    # -- networks, keys, firewalls -------------------------------------------------------------------------------------

    def make_vpcs(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        self.known("regions", call.body["region"], "region")
        if ("v4_subnet" in call.body) != ("v4_subnet_mask" in call.body):
            raise Refused(400, "", "v4_subnet and v4_subnet_mask go together.")
        number = len(call.account.all("vpcs"))
        defaults = {"description": "", "v4_subnet": f"10.{1 + number}.96.0", "v4_subnet_mask": 20}
        vpc = {**thing, "date_created": self.clock.stamp(), **defaults, **call.body}
        try:
            ipaddress.ip_network(f"{vpc['v4_subnet']}/{vpc['v4_subnet_mask']}")
        except ValueError:
            raise Refused(400, "", "Invalid subnet.") from None
        return vpc

    def drop_vpcs(self, account: Account, thing: Thing) -> None:
        if any(one["id"] == thing["id"] for instance in account.all("instances") for one in instance["vpcs"]):
            raise Refused(400, "", "This VPC is still attached to instances.")

    def make_ssh_keys(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        if len(call.body["ssh_key"].split()) < 2:
            raise Refused(400, "", "Invalid SSH key.")
        return {**thing, "date_created": self.clock.stamp(), **call.body}

    def make_firewall_groups(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        stamp = self.clock.stamp()
        return {
            **thing,
            "description": call.body.get("description", ""),
            "date_created": stamp,
            "date_modified": stamp,
            "instance_count": 0,
            "rule_count": 0,
            "max_rule_count": 50,
        }

    def drop_firewall_groups(self, account: Account, thing: Thing) -> None:
        """Instances in the group are without one from then on."""
        for instance in account.all("instances"):
            if instance["firewall_group_id"] == thing["id"]:
                instance["firewall_group_id"] = ""

    def rules_of(self, call: Call, key: str) -> list[Thing]:
        call.account.find("firewall_groups", key)
        return [one for one in call.account.all("rules") if one["group"] == key]

    @on("GET", "/firewalls/{key}/rules", paged=True)
    def rules(self, call: Call, key: str) -> Answer:
        return self.list_answer(call, "firewall_rules", without(self.rules_of(call, key), {"group"}))

    @on("POST", "/firewalls/{key}/rules", body={
        "ip_type!": {"v4", "v6"}, "protocol!": {"ICMP", "TCP", "UDP", "GRE", "ESP", "AH", "icmp", "tcp", "udp"},
        "subnet!": str, "subnet_size!": int, "port": re.compile(r"|\d+(:\d+)?"), "source": str, "notes": str,
    })  # fmt: skip
    def create_rule(self, call: Call, key: str) -> Answer:
        body, group = call.body, call.account.find("firewall_groups", key)
        if body["protocol"].lower() in ("tcp", "udp") and not body.get("port"):
            raise Refused(400, "", "Invalid port.")
        try:
            part = ipaddress.ip_network(f"{body['subnet']}/{body['subnet_size']}")
        except ValueError:
            raise Refused(400, "", "Invalid subnet.") from None
        if f"v{part.version}" != body["ip_type"]:
            raise Refused(400, "", "Subnet and ip_type do not match.")
        rule = {
            "id": next(self.numbers),
            "type": body["ip_type"],
            "ip_type": body["ip_type"],
            "action": "accept",
            "protocol": body["protocol"].lower(),
            "port": body.get("port", ""),
            "subnet": body["subnet"],
            "subnet_size": body["subnet_size"],
            "source": body.get("source", ""),
            "notes": body.get("notes", ""),
        }
        same = ("ip_type", "protocol", "port", "subnet", "subnet_size", "source")
        if any(all(one[word] == rule[word] for word in same) for one in self.rules_of(call, key)):
            raise Refused(400, "", "This rule is already defined.")
        call.account.put("rules", {**rule, "group": key}, (key, rule["id"]))
        self.order[rule["id"]] = rule["id"]
        group["rule_count"] += 1
        return Answer(201, {"firewall_rule": rule})

    @on("DELETE", "/firewalls/{key}/rules/{rule}")
    def delete_rule(self, call: Call, key: str, rule: str) -> Answer:
        call.account.find("firewall_groups", key)["rule_count"] -= 1
        call.account.find("rules", (key, int(rule)))
        call.account.stock["rules"].pop((key, int(rule)))
        call.account.version += 1
        return Answer(204)

    # -- volumes, load balancers, snapshots ----------------------------------------------------------------------------

    def make_blocks(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        self.known("regions", call.body["region"], "region")
        if not 10 <= call.body["size_gb"] <= 40_000:
            raise Refused(400, "", "Invalid size_gb.")
        block = {
            **thing,
            "cost": call.body["size_gb"] // 10,
            "status": "pending",
            "size_gb": call.body["size_gb"],
            "region": call.body["region"],
            "attached_to_instance": "",
            "date_created": self.clock.stamp(),
            "label": call.body.get("label", ""),
            "mount_id": f"{call.body['region']}-{thing['id'][:8]}",
            "block_type": call.body.get("block_type", "high_perf"),
        }
        self.in_time(call.account, lambda: block.update(status="active"))
        return block

    def drop_blocks(self, account: Account, thing: Thing) -> None:
        if thing["attached_to_instance"]:
            raise Refused(400, "", "Block storage is still attached to an instance.")

    @on("POST", "/blocks/{key}/attach", body={"instance_id!": str, "live": bool})
    def attach_block(self, call: Call, key: str) -> Answer:
        block, instance = call.account.find("blocks", key), call.account.find("instances", call.body["instance_id"])
        if block["status"] != "active" or block["attached_to_instance"] or block["region"] != instance["region"]:
            raise Refused(400, "", "Block storage can not be attached: it is pending, in use or in another region.")
        block["attached_to_instance"] = instance["id"]
        call.account.version += 1
        return Answer(204)

    @on("POST", "/blocks/{key}/detach", body={"live": bool})
    def detach_block(self, call: Call, key: str) -> Answer:
        call.account.find("blocks", key)["attached_to_instance"] = ""
        call.account.version += 1
        return Answer(204)

    def make_load_balancers(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        self.known("regions", call.body["region"], "region")
        four, six = self.new_address()
        balancer = {
            **thing,
            "date_created": self.clock.stamp(),
            "region": call.body["region"],
            "label": call.body.get("label", ""),
            "status": "pending",
            "ipv4": "",
            "ipv6": "",
            "has_ssl": "ssl" in call.body,
            "nodes": 1,
            "health_check": {},
            "instances": [],
            "forwarding_rules": [],
            "firewall_rules": [],
            "generic_info": {"balancing_algorithm": "roundrobin", "ssl_redirect": False, "proxy_protocol": False,
                             "sticky_sessions": {}, "vpc": ""},
        }  # fmt: skip
        self.set_balancer(call, balancer)
        self.in_time(call.account, lambda: balancer.update(ipv4=four, ipv6=six, status="active"))
        return balancer

    def set_balancer(self, call: Call, balancer: Thing) -> None:
        body = call.body
        for key in body.get("instances", []):
            call.account.find("instances", key)
        if body.get("vpc"):
            call.account.find("vpcs", body["vpc"])
        rules = [{"id": self.new_id("forwarding")[:16], **one} for one in body.get("forwarding_rules", [])]
        if rules:
            balancer["forwarding_rules"] = rules
        for word in ("label", "instances", "health_check", "firewall_rules"):
            if word in body:
                balancer[word] = body[word]
        general = ("balancing_algorithm", "ssl_redirect", "proxy_protocol", "vpc")
        balancer["generic_info"] |= {word: body[word] for word in general if word in body}

    @on("PATCH", "/load-balancers/{key}", body=BALANCER)
    def change_balancer(self, call: Call, key: str) -> Answer:
        self.set_balancer(call, call.account.find("load_balancers", key))
        call.account.version += 1
        return Answer(204)

    def make_snapshots(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        instance = call.account.find("instances", call.body["instance_id"])
        snapshot = {
            **thing,
            "date_created": self.clock.stamp(),
            "description": call.body.get("description", ""),
            "size": 0,
            "compressed_size": 0,
            "status": "pending",
            "os_id": instance["os_id"],
            "app_id": 0,
        }
        self.in_time(call.account, lambda: snapshot.update(status="complete", size=42949672960))
        return snapshot

    # -- DNS -----------------------------------------------------------------------------------------------------------

    @on("GET", "/domains", paged=True)
    def domains(self, call: Call) -> Answer:
        answer = self.list_answer(call, "domains", call.account.all("domains"))
        # They have no id of their own; the cursor needs one.
        answer.body["domains"] = without(answer.body["domains"], {"id"})
        return answer

    @on("GET", "/domains/{name}")
    def domain(self, call: Call, name: str) -> Answer:
        return Answer(200, {"domain": without([call.account.find("domains", name)], {"id"})[0]})

    @on("POST", "/domains", body={"domain!": str, "ip": str, "dns_sec": {"enabled", "disabled"}})
    def create_domain(self, call: Call) -> Answer:
        name = call.body["domain"]
        if name in call.account.stock.get("domains", {}):
            raise Refused(400, "", "Domain already exists.")
        domain = {"domain": name, "date_created": self.clock.stamp(), "dns_sec": call.body.get("dns_sec", "disabled")}
        call.account.put("domains", {"id": self.new_id("domains"), **domain}, name)
        if "ip" in call.body:
            self.put_record(call.account, name, {"type": "A", "name": "", "data": call.body["ip"]})
        return Answer(200, {"domain": domain})

    @on("DELETE", "/domains/{name}")
    def delete_domain(self, call: Call, name: str) -> Answer:
        call.account.drop("domains", name)
        return Answer(204)

    def put_record(self, account: Account, domain: str, body: Thing) -> Thing:
        record = {"id": self.new_id("records"), "priority": -1, "ttl": 300, **body}
        account.put("records", {**record, "domain": domain})
        return record

    @on("GET", "/domains/{name}/records", paged=True)
    def records(self, call: Call, name: str) -> Answer:
        call.account.find("domains", name)
        things = [one for one in call.account.all("records") if one["domain"] == name]
        return self.list_answer(call, "records", without(things, {"domain"}))

    @on("POST", "/domains/{name}/records", body={
        "name!": str, "type!": {"A", "AAAA", "CNAME", "NS", "MX", "SRV", "TXT", "CAA", "SSHFP"}, "data!": str,
        "ttl": int, "priority": int,
    })  # fmt: skip
    def create_record(self, call: Call, name: str) -> Answer:
        call.account.find("domains", name)
        return Answer(201, {"record": self.put_record(call.account, name, call.body)})

    @on("PATCH", "/domains/{name}/records/{key}", body={"name": str, "data": str, "ttl": int, "priority": int})
    def change_record(self, call: Call, name: str, key: str) -> Answer:
        call.account.find("domains", name)
        call.account.find("records", key).update(call.body)
        call.account.version += 1
        return Answer(204)

    @on("DELETE", "/domains/{name}/records/{key}")
    def delete_record(self, call: Call, name: str, key: str) -> Answer:
        call.account.find("domains", name)
        call.account.drop("records", key)
        return Answer(204)

    @on("GET", "/account")
    def whose(self, call: Call) -> Answer:
        return Answer(200, {
            "account": {
                "name": call.account.name, "email": "admin@example.com", "acls": ["manage_users"], "balance": -100.5,
                "pending_charges": 60.25, "last_payment_date": "2024-01-01T00:00:00+00:00",
                "last_payment_amount": -1.25,
            }
        })  # fmt: skip

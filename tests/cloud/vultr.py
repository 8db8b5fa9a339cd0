"""Vultr, API v2, with `vpcs` on instances and Retry-After as the documents of 2026 have them."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Refused, Thing, Whole, on
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


class Vultr(Api):
    name, prefix = "vultr", "/vultr/v2"
    list_path, list_key, second_path = "/instances", "instances", "/bare-metals"
    server_kinds = ("instances", "bare_metals")
    paging = {"per_page": Whole(1, 500), "cursor": str}
    size_default, size_most = 100, 500
    kinds: tuple[Kind, ...] = (
        Kind("vpcs", "/vpcs", "vpc", None, None),
        Kind("regions", "/regions", deletable=False),
        Kind("plans", "/plans", query={"type": str, "os": str}, exact=("type",), deletable=False),
        Kind("plans_metal", "/plans-metal", deletable=False),
        Kind("os", "/os", deletable=False),
    )

    # -- manners -------------------------------------------------------------------------------------------------------

    def make_token(self, account: str) -> str:
        return hashlib.sha256(f"vultr {account}".encode()).hexdigest()[:36].upper()

    def new_id(self, kind: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{next(self.numbers)}.{kind}.test"))

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

    # -- what there is -------------------------------------------------------------------------------------------------

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
        self.order[vpc["id"]] = next(self.numbers)
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
            "hostname": hostname or label or "guest",
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

"""Linode (Akamai), API v4."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Refused, Thing, Whole, on
from tests.cloud.fleet import NETWORK, Machine

REGIONS = {"de-fra-2": ("Frankfurt 2, DE", "de"), "nl-ams": ("Amsterdam, NL", "nl"), "us-east": ("Newark, NJ", "us")}
# Id: label, memory, disk, processors, dollars a month.
TYPES = {
    "g6-nanode-1": ("Nanode 1GB", 1024, 25600, 1, 5.0),
    "g6-standard-1": ("Linode 2GB", 2048, 51200, 1, 12.0),
    "g6-standard-4": ("Linode 8GB", 8192, 163840, 4, 48.0),
}
IMAGES = {"linode/debian13": "Debian 13", "linode/debian12": "Debian 12", "linode/ubuntu24.04": "Ubuntu 24.04 LTS"}
WORDS = {"running": "running", "stopped": "offline", "pending": "provisioning"}
# What instances may be filtered by.
FILTERABLE = {"id", "label", "group", "tags", "region", "ipv4", "image", "type", "status"}
NAME = re.compile(r"[a-zA-Z0-9]((?!--|__|\.\.)[a-zA-Z0-9-_.])+")


def fits(thing: Thing, wanted: Any, call: Call) -> bool:
    """Whether a thing fits an X-Filter."""
    for name, value in wanted.items():
        if name in ("+order_by", "+order"):
            continue
        if name in ("+and", "+or"):
            each = [fits(thing, one, call) for one in value]
            good = all(each) if name == "+and" else any(each)
        elif name not in thing and name not in FILTERABLE:
            call.problems.append(f"X-Filter by {name}, which is no filterable field")
            raise Refused(400, "", "Cannot filter on " + name, "X-Filter")
        else:
            good = compared(thing.get(name), value)
        if not good:
            return False
    return True


def compared(have: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        return wanted in have if isinstance(have, list) else bool(have == wanted)
    ways = {
        "+contains": lambda a, b: any(b in one for one in a) if isinstance(a, list) else b in (a or ""),
        "+neq": lambda a, b: b not in a if isinstance(a, list) else a != b,
        "+gt": lambda a, b: a > b,
        "+gte": lambda a, b: a >= b,
        "+lt": lambda a, b: a < b,
        "+lte": lambda a, b: a <= b,
    }
    return all(ways[way](have, value) for way, value in wanted.items())


class Linode(Api):
    name, prefix = "linode", "/linode/v4"
    list_path, list_key, second_path = "/linode/instances", "data", "/vpcs/ips"
    server_kinds = ("instances",)
    paging = {"page": Whole(), "page_size": Whole(25, 500)}
    size_word, size_default, size_least, size_most, size_strict = "page_size", 100, 25, 500, True
    kinds: tuple[Kind, ...] = (
        Kind("vpcs", "/vpcs", create=None, change=None),
        Kind("regions", "/regions", deletable=False),
        Kind("types", "/linode/types", deletable=False),
        Kind("images", "/images", create=None, change=None),
    )

    # -- manners -------------------------------------------------------------------------------------------------------

    def make_token(self, account: str) -> str:
        return hashlib.sha256(f"linode {account}".encode()).hexdigest()

    def fresh_limits(self) -> list[Limit]:
        return [Limit(200, 60)]

    def limit_headers(self) -> dict[str, str]:
        limit = self.limits[0]
        return {
            "X-RateLimit-Limit": str(limit.most),
            "X-RateLimit-Remaining": str(limit.left),
            "X-RateLimit-Reset": str(int(limit.free_at(self.clock.now())) + 1),
        }

    def over_limit(self, limit: Limit) -> Answer:
        now = self.clock.now()
        wait = max(int(limit.free_at(now) - now), 0) + 1
        return Answer(429, {"errors": [{"reason": "Too many requests"}]}, {"Retry-After": str(wait)})

    def error(self, status: int, code: str, message: str, field: str | None = None) -> Answer:
        return Answer(status, {"errors": [{"reason": message, **({"field": field} if field else {})}]})

    def bad_token(self) -> Answer:
        return self.error(401, "", "Invalid Token")

    def no_scope(self) -> Answer:
        return self.error(401, "", "Your OAuth token is not authorized to use this endpoint.")

    def one_answer(self, key: str, thing: Thing, status: int = 200) -> Answer:
        return Answer(200, thing)

    def deleted(self) -> Answer:
        return Answer(200, {})

    def not_unique(self, kind: Kind) -> Refused:
        return Refused(400, "", f"{kind.unique.capitalize()} must be unique among your {kind.name}", kind.unique)

    def list_answer(self, call: Call, key: str, things: list[Thing]) -> Answer:
        things = self.x_filtered(call, things)
        part, page, pages, _size = self.numbered(call, things)
        if page > pages:
            raise Refused(404, "", "Not found")
        return Answer(200, {"data": part, "page": page, "pages": pages, "results": len(things)})

    def x_filtered(self, call: Call, things: list[Thing]) -> list[Thing]:
        text = call.headers.get("x-filter", "")
        if not text:
            return things
        try:
            wanted = json.loads(text)
        except ValueError:
            call.problems.append("X-Filter is not JSON")
            raise Refused(400, "", "X-Filter header must be valid JSON", "X-Filter") from None
        things = [thing for thing in things if fits(thing, wanted, call)]
        if "+order_by" in wanted:
            things.sort(key=lambda thing: thing[wanted["+order_by"]], reverse=wanted.get("+order") == "desc")
        return things

    # -- what there is -------------------------------------------------------------------------------------------------

    def make_catalog(self) -> dict[str, list[Thing]]:
        regions = [
            {
                "id": key,
                "label": label,
                "country": country,
                "capabilities": ["Linodes", "NodeBalancers", "Block Storage", "VPCs", "Metadata", "Cloud Firewall"],
                "status": "ok",
                "resolvers": {"ipv4": "192.0.2.53", "ipv6": "2001:db8::53"},
                "site_type": "core",
                "placement_group_limits": {
                    "maximum_pgs_per_customer": 100,
                    "maximum_linodes_per_pg": 10,
                },
            }
            for key, (label, country) in REGIONS.items()
        ]
        types = [
            {
                "id": key,
                "label": label,
                "class": "nanode" if "nanode" in key else "standard",
                "memory": memory,
                "disk": disk,
                "vcpus": cpus,
                "gpus": 0,
                "network_out": 1000,
                "transfer": 1000,
                "price": {"hourly": round(dollars / 667, 4), "monthly": dollars},
                "region_prices": [{"id": "br-gru", "hourly": 0.0105, "monthly": dollars * 1.4}],
                "addons": {
                    "backups": {
                        "price": {"hourly": 0.003, "monthly": 2.0},
                        "region_prices": [{"id": "br-gru", "hourly": 0.0042, "monthly": 2.8}],
                    }
                },
                "successor": None,
            }
            for key, (label, memory, disk, cpus, dollars) in TYPES.items()
        ]
        images = [self.image(key, label) for key, label in IMAGES.items()]
        return {"regions": regions, "types": types, "public_images": images}

    @staticmethod
    def image(key: str, label: str, public: bool = True) -> Thing:
        return {
            "id": key,
            "label": label,
            "description": "",
            "created": "2024-01-01T00:00:00",
            "updated": "2024-01-01T00:00:00",
            "created_by": "linode",
            "capabilities": ["cloud-init"],
            "deprecated": False,
            "eol": None,
            "expiry": None,
            "is_public": public,
            "size": 1500,
            "status": "available",
            "type": "manual",
            "vendor": label.split(maxsplit=1)[0] if public else None,
            "tags": [],
            "total_size": 1500,
            "regions": [],
        }

    def fill(self, account: Account, machines: list[Machine]) -> None:
        account.stock["images"] = {one["id"]: one for one in self.catalog["public_images"]}
        for one in machines:
            account.put("instances", self.rendered(account, one))

    def vpc_of(self, account: Account, region: str) -> Thing:
        for known in account.all("vpcs"):
            if known["region"] == region:
                return known
        number = next(self.numbers)
        stamp = "2024-01-01T00:00:00"
        subnet = {
            "id": next(self.numbers),
            "label": "subnet",
            "ipv4": "10.0.0.0/8",
            "linodes": [],
            "created": stamp,
            "updated": stamp,
        }
        vpc = {
            "id": number,
            "label": f"{NETWORK}-{region}",
            "description": "",
            "region": region,
            "subnets": [subnet],
            "created": stamp,
            "updated": stamp,
        }
        return account.put("vpcs", vpc)

    def rendered(self, account: Account, one: Machine) -> Thing:
        region = list(REGIONS)[one.place % len(REGIONS)]
        types = self.catalog["types"]
        instance = self.make_instance(
            one.number,
            label=one.name,
            kind=types[one.place % len(types)],
            region=region,
            image=list(IMAGES)[one.place % len(IMAGES)],
            status=WORDS.get(one.status, one.status),
            created=one.created.strftime("%Y-%m-%dT%H:%M:%S"),
            tags=one.words(),
            ipv4=[one.public_ipv4] if one.public_ipv4 else [],
            ipv6=f"{one.public_ipv6}/128" if one.public_ipv6 else None,
        )
        if one.private_ipv4:
            self.plug(account, instance, self.vpc_of(account, region)["subnets"][0], one.private_ipv4)
        if one.change:
            one.change(instance)
        return instance

    def plug(self, account: Account, instance: Thing, subnet: Thing, address: str, nat: str | None = None) -> None:
        vpc = next(one for one in account.all("vpcs") if subnet in one["subnets"])
        interface = next(self.numbers)
        subnet["linodes"].append({"id": instance["id"], "interfaces": [{"id": interface, "active": True}]})
        entry = {
            "address": address,
            "address_range": None,
            "gateway": subnet["ipv4"].rpartition(".")[0] + ".1",
            "prefix": int(subnet["ipv4"].rpartition("/")[2]),
            "subnet_mask": "255.0.0.0",
            "linode_id": instance["id"],
            "config_id": interface + 1,
            "interface_id": interface,
            "vpc_id": vpc["id"],
            "subnet_id": subnet["id"],
            "region": instance["region"],
            "active": True,
            "nat_1_1": nat,
        }
        account.put("vpc_ips", entry, key=(instance["id"], address))

    @staticmethod
    def make_instance(
        number: int,
        label: str,
        kind: Thing,
        region: str,
        image: str | None,
        status: str,
        created: str,
        tags: list[str],
        ipv4: list[str],
        ipv6: str | None,
    ) -> Thing:
        return {
            "id": number,
            "label": label,
            "group": "",
            "status": status,
            "created": created,
            "updated": created,
            "type": kind["id"],
            "ipv4": ipv4,
            "ipv6": ipv6,
            "image": image,
            "region": region,
            "specs": {
                "disk": kind["disk"],
                "memory": kind["memory"],
                "vcpus": kind["vcpus"],
                "gpus": 0,
                "transfer": kind["transfer"],
            },
            "alerts": {"cpu": 90, "network_in": 10, "network_out": 10, "transfer_quota": 80, "io": 10000},
            "backups": {
                "enabled": False,
                "available": False,
                "schedule": {"day": None, "window": None},
                "last_successful": None,
            },
            "hypervisor": "kvm",
            "watchdog_enabled": True,
            "tags": tags,
            "host_uuid": f"{number:040x}",
            "has_user_data": False,
            "placement_group": None,
            "lke_cluster_id": None,
            "capabilities": [],
        }

    @on("GET", "/linode/instances", paged=True)
    def instances(self, call: Call) -> Answer:
        return self.list_answer(call, "data", call.account.all("instances"))

    @on("GET", "/linode/instances/{key}")
    def instance(self, call: Call, key: str) -> Answer:
        return Answer(200, call.account.find("instances", key))

    @on("GET", "/vpcs/ips", paged=True)
    def vpc_ips(self, call: Call) -> Answer:
        return self.list_answer(call, "data", call.account.all("vpc_ips"))

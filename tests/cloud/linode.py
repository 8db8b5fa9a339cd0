"""Linode (Akamai), API v4."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from typing import Any

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Refused, Shape, Thing, Whole, on, without
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


TAGS: Shape = [re.compile(r".{1,50}", re.DOTALL)]
BASE64 = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
VPC_ADDRESS: Shape = {"vpc": (str, None), "nat_1_1": (str, None)}
# As configurations of instances have them; the newer form, `interface_generation: linode`, is not played.
INTERFACE: Shape = {
    "purpose!": {"public", "vlan", "vpc"},
    "label": (str, None),
    "ipam_address": (str, None),
    "primary": bool,
    "subnet_id": (int, None),
    "ipv4": VPC_ADDRESS,
    "ip_ranges": ([str], None),
}
INSTANCE: Shape = {
    "region!": str,
    "type!": str,
    "image": str,
    "root_pass": str,
    "authorized_keys": [str],
    "authorized_users": [str],
    "booted": bool,
    "label": re.compile(r"[a-zA-Z0-9]((?!--|__|\.\.)[a-zA-Z0-9-_.]){1,62}[a-zA-Z0-9]"),
    "tags": TAGS,
    "group": str,
    "interfaces": [INTERFACE],
    "interface_generation": {"legacy_config"},
    "firewall_id": int,
    "metadata": {"user_data": BASE64},
    "private_ip": bool,
    "backups_enabled": bool,
    "backup_id": int,
    "swap_size": int,
    "stackscript_id": int,
    "stackscript_data": {"*": object},
    "placement_group": {"id": int},
    "disk_encryption": {"enabled", "disabled"},
}
RULE: Shape = {
    "action!": {"ACCEPT", "DROP"},
    "addresses!": {"ipv4": [str], "ipv6": [str]},
    "protocol!": {"TCP", "UDP", "ICMP", "IPENCAP"},
    "ports": (re.compile(r"\d+(-\d+)?(, ?\d+(-\d+)?)*"), None),
    "label": re.compile(r".{3,32}"),
    "description": re.compile(r".{1,100}"),
}
RULES: Shape = {
    "inbound_policy!": {"ACCEPT", "DROP"},
    "outbound_policy!": {"ACCEPT", "DROP"},
    "inbound": [RULE],
    "outbound": [RULE],
}
NODE: Shape = {
    "address!": re.compile(r"[\d.]+:\d+"),
    "label!": re.compile(r"[a-zA-Z0-9-_.]{3,32}"),
    "mode": {"accept", "reject", "drain", "backup"},
    "weight": int,
    "subnet_id": int,
}
CONFIG: Shape = {
    "port": int,
    "protocol": {"http", "https", "tcp"},
    "algorithm": {"roundrobin", "leastconn", "source"},
    "stickiness": {"none", "table", "http_cookie"},
    "check": {"none", "connection", "http", "http_body"},
    "check_interval": int,
    "check_timeout": int,
    "check_attempts": int,
    "check_path": str,
    "check_body": str,
    "check_passive": bool,
    "proxy_protocol": {"none", "v1", "v2"},
    "cipher_suite": {"recommended", "legacy"},
    "ssl_cert": (str, None),
    "ssl_key": (str, None),
}
RECORD: Shape = {
    "name": str,
    "target": str,
    "ttl_sec": int,
    "priority": int,
    "weight": int,
    "port": int,
    "service": (str, None),
    "protocol": (str, None),
    "tag": ({"issue", "issuewild", "iodef"}, None),
}
SUBNET: Shape = {"label!": str, "ipv4!": str}


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
        Kind(
            "vpcs",
            "/vpcs",
            "",
            {"label!": re.compile(r"[a-zA-Z0-9-]{1,64}"), "region!": str, "description": str, "subnets": [SUBNET]},
            {"label": str, "description": str},
            unique="label",
        ),
        Kind("regions", "/regions", deletable=False),
        Kind("types", "/linode/types", deletable=False),
        Kind("volume_types", "/volumes/types", deletable=False),
        Kind("nodebalancer_types", "/nodebalancers/types", deletable=False),
        Kind(
            "images",
            "/images",
            "",
            {"disk_id!": int, "label": str, "description": str, "cloud_init": bool, "tags": TAGS},
            {"label": str, "description": str, "tags": TAGS},
        ),
        Kind("ssh_keys", "/profile/sshkeys", "", {"label!": str, "ssh_key!": str}, {"label": str}),
        Kind(
            "volumes",
            "/volumes",
            "",
            {
                "label!": re.compile(r"[a-zA-Z]((?!--|__)[a-zA-Z0-9-_]){0,31}"),
                "region": str,
                "size": int,
                "linode_id": int,
                "config_id": int,
                "tags": TAGS,
                "encryption": {"enabled", "disabled"},
            },
            {"label": str, "tags": TAGS},
            unique="label",
        ),
        Kind(
            "firewalls",
            "/networking/firewalls",
            "",
            {
                "label!": re.compile(r"[a-zA-Z]((?!--|__|\.\.)[a-zA-Z0-9-_.]){2,31}"),
                "rules!": RULES,
                "tags": TAGS,
                "devices": {"linodes": [int], "nodebalancers": [int]},
            },
            {"label": str, "tags": TAGS, "status": {"enabled", "disabled"}},
            unique="label",
        ),
        Kind(
            "nodebalancers",
            "/nodebalancers",
            "",
            {
                "region!": str,
                "label": re.compile(r"[a-zA-Z0-9-_]{3,32}"),
                "client_conn_throttle": int,
                "tags": TAGS,
                "firewall_id": int,
                "configs": [{**CONFIG, "nodes": [NODE]}],
            },
            {"label": str, "client_conn_throttle": int, "tags": TAGS},
            unique="label",
        ),
        Kind(
            "domains",
            "/domains",
            "",
            {
                "domain!": str,
                "type!": {"master", "slave"},
                "soa_email": str,
                "description": str,
                "ttl_sec": int,
                "tags": TAGS,
                "refresh_sec": int,
                "retry_sec": int,
                "expire_sec": int,
            },
            {"soa_email": str, "description": str, "ttl_sec": int, "tags": TAGS, "status": {"active", "disabled"}},
            unique="domain",
        ),
    )

    # -- manners ------------------------------------------------------------------------------------------------------

    def make_token(self, account: str) -> str:
        return hashlib.sha256(f"linode {account}".encode()).hexdigest()

    def fresh_limits(self) -> list[Limit]:
        # New instances have a limit of their own.
        self.creations = Limit(20, 15)
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

    def was_created(self, call: Call, kind: Kind, thing: Thing) -> Answer:
        return Answer(200, thing)

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

    # -- what there is ------------------------------------------------------------------------------------------------

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
        flat = {"transfer": 0, "region_prices": []}
        volume = {"id": "volume", "label": "Storage Volume", "price": {"hourly": 0.00015, "monthly": 0.1}, **flat}
        balancer = {"id": "nodebalancer", "label": "NodeBalancer", "price": {"hourly": 0.015, "monthly": 10.0}, **flat}
        return {
            "regions": regions,
            "types": types,
            "public_images": images,
            "volume_types": [volume],
            "nodebalancer_types": [balancer],
        }

    @staticmethod
    def image(key: str, label: str, public: bool = True) -> Thing:
        return {
            "id": key,
            "label": label,
            "description": None,
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
        vpc = self.vpc_with(account, subnet)
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

    # -- instances -----------------------------------------------------------------------------------------------------

    @on("POST", "/linode/instances", body=INSTANCE)
    def create_instance(self, call: Call) -> Answer:
        if not self.creations.take(self.clock.now()):
            return self.over_limit(self.creations)
        body, account = call.body, call.account
        kind = self.known("types", body["type"], "type")
        region = self.known("regions", body["region"], "region")["id"]
        label = body.get("label") or f"linode{next(self.numbers)}"
        if any(one["label"] == label for one in account.all("instances")):
            raise Refused(400, "", "Label must be unique among your linodes", "label")
        if "image" in body:
            if body["image"] not in account.stock.get("images", {}):
                raise Refused(400, "", "image is not valid", "image")
            if not any(word in body for word in ("root_pass", "authorized_keys", "authorized_users")):
                raise Refused(400, "", "root_pass is required", "root_pass")
        four, six = self.new_address()
        interfaces = body.get("interfaces", [])
        public = not interfaces or any(one["purpose"] == "public" for one in interfaces)
        nat = any((one.get("ipv4") or {}).get("nat_1_1") for one in interfaces)
        number = next(self.numbers)
        addresses = [four] if public or nat else []
        if body.get("private_ip"):
            # No order is promised.
            addresses.insert(0, f"192.168.{128 + number // 250 % 100}.{number % 250 + 1}")
        instance = self.make_instance(
            number,
            label=label,
            kind=kind,
            region=region,
            image=body.get("image"),
            status="provisioning",
            created=self.clock.stamp(""),
            tags=list(body.get("tags", [])),
            ipv4=addresses,
            ipv6=f"{six}/128" if public else None,
        )
        instance["has_user_data"] = "metadata" in body
        for one in interfaces:
            if one["purpose"] == "vpc":
                subnet = self.subnet(account, one.get("subnet_id") or 0)
                if self.vpc_with(account, subnet)["region"] != region:
                    raise Refused(400, "", "The subnet is in another region", "interfaces")
                wish = (one.get("ipv4") or {}).get("vpc") or self.free_ip(account, subnet)
                self.plug(account, instance, subnet, wish, four if (one.get("ipv4") or {}).get("nat_1_1") else None)
        if body.get("firewall_id"):
            self.add_device(account, account.find("firewalls", body["firewall_id"]), "linode", instance)
        account.put("instances", instance)
        account.put("first_boots", {
            "user_data": body.get("metadata", {}).get("user_data"), "ssh_keys": body.get("authorized_keys", []),
        }, number)  # fmt: skip
        last = "running" if body.get("booted", True) and "image" in body else "offline"
        self.in_time(account, lambda: instance.update(status=last))
        self.event(account, "linode_create", instance)
        return Answer(200, dict(instance))

    def known(self, kind: str, key: str, field: str) -> Thing:
        for one in self.catalog[kind]:
            if one["id"] == key:
                return one
        raise Refused(400, "", f"A valid {field} is required", field)

    def subnet(self, account: Account, key: int) -> Thing:
        for vpc in account.all("vpcs"):
            for subnet in vpc["subnets"]:
                if subnet["id"] == int(key):
                    return subnet
        raise Refused(400, "", "Subnet not found", "subnet_id")

    @staticmethod
    def vpc_with(account: Account, subnet: Thing) -> Thing:
        return next(vpc for vpc in account.all("vpcs") if subnet in vpc["subnets"])

    @staticmethod
    def free_ip(account: Account, subnet: Thing) -> str:
        taken = {one["address"] for one in account.all("vpc_ips") if one["subnet_id"] == subnet["id"]}
        part = ipaddress.ip_network(subnet["ipv4"])
        return next(str(part[n]) for n in range(2, part.num_addresses) if str(part[n]) not in taken)

    @on("PUT", "/linode/instances/{key}", body={
        "label": str, "tags": TAGS, "group": str, "watchdog_enabled": bool, "alerts": {"*": int},
        "backups": {"*": object},
    })  # fmt: skip
    def change_instance(self, call: Call, key: str) -> Answer:
        instance = call.account.find("instances", key)
        instance.update(call.body, updated=self.clock.stamp(""))
        call.account.version += 1
        return Answer(200, instance)

    @on("DELETE", "/linode/instances/{key}")
    def delete_instance(self, call: Call, key: str) -> Answer:
        account, instance = call.account, call.account.find("instances", key)
        number = instance["id"]
        account.drop("instances", number)
        for vpc in account.all("vpcs"):
            for subnet in vpc["subnets"]:
                subnet["linodes"] = [one for one in subnet["linodes"] if one["id"] != number]
        for shelf in ("vpc_ips", "devices"):
            stock = account.stock.get(shelf, {})
            for place in [one for one in stock if one[0] == number]:
                stock.pop(place)
        for volume in account.all("volumes"):
            if volume["linode_id"] == number:
                volume.update(linode_id=None, linode_label=None)
        self.event(account, "linode_delete", instance)
        return Answer(200, {})

    @on("POST", "/linode/instances/{key}/{command}", body={"config_id": int})
    def power(self, call: Call, key: str, command: str) -> Answer:
        after = {"boot": "running", "reboot": "running", "shutdown": "offline"}
        if command not in after:
            call.problems.append(f"there is no command {command} of instances here")
            raise Refused(404, "", "Not found")
        instance = call.account.find("instances", key)
        self.in_time(call.account, lambda: instance.update(status=after[command]))
        self.event(call.account, f"linode_{command}", instance)
        return Answer(200, {})

    @on("POST", "/linode/instances/{key}/resize", body={
        "type!": str, "allow_auto_disk_resize": bool, "migration_type": {"warm", "cold"},
    })  # fmt: skip
    def resize(self, call: Call, key: str) -> Answer:
        instance, kind = call.account.find("instances", key), self.known("types", call.body["type"], "type")
        if kind["disk"] < instance["specs"]["disk"] and not call.body.get("allow_auto_disk_resize", True):
            raise Refused(400, "", "The disks do not fit on the new type", "type")
        specs = {**instance["specs"], **{word: kind[word] for word in ("disk", "memory", "vcpus")}}
        self.in_time(call.account, lambda: instance.update(type=kind["id"], specs=specs))
        return Answer(200, {})

    @on("GET", "/linode/instances/{key}/disks", paged=True)
    def disks(self, call: Call, key: str) -> Answer:
        instance = call.account.find("instances", key)
        stamp, size = instance["created"], instance["specs"]["disk"]
        names = (("Debian Disk", "ext4", size - 512), ("512 MB Swap Image", "swap", 512)) if instance["image"] else ()
        disks = [
            {
                "id": instance["id"] * 10 + n,
                "label": label,
                "status": "ready",
                "size": size,
                "filesystem": filesystem,
                "created": stamp,
                "updated": stamp,
            }
            for n, (label, filesystem, size) in enumerate(names)
        ]
        return self.list_answer(call, "data", disks)

    @on("GET", "/linode/instances/{key}/firewalls", paged=True)
    def firewalls_of(self, call: Call, key: str) -> Answer:
        number = call.account.find("instances", key)["id"]
        having = {place[1] for place in call.account.stock.get("devices", {}) if place[0] == number}
        return self.list_answer(call, "data", [one for one in call.account.all("firewalls") if one["id"] in having])

    def event(self, account: Account, action: str, instance: Thing) -> None:
        event = {
            "id": next(self.numbers),
            "action": action,
            "created": self.clock.stamp(""),
            "duration": 1.0,
            "entity": {
                "id": instance["id"],
                "label": instance["label"],
                "type": "linode",
                "url": f"/v4/linode/instances/{instance['id']}",
            },
            "secondary_entity": None,
            "message": None,
            "percent_complete": 0,
            "rate": None,
            "read": False,
            "seen": False,
            "status": "started",
            "time_remaining": None,
            "username": "user",
        }
        account.put("events", event)
        self.in_time(account, lambda: event.update(status="finished", percent_complete=100))

    @on("GET", "/account/events", paged=True)
    def events(self, call: Call) -> Answer:
        return self.list_answer(call, "data", call.account.all("events")[::-1])

    # -- networks, keys, firewalls -------------------------------------------------------------------------------------

    def make_vpcs(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        self.known("regions", call.body["region"], "region")
        stamp = self.clock.stamp("")
        return {
            **thing,
            "label": call.body["label"],
            "description": call.body.get("description", ""),
            "region": call.body["region"],
            "subnets": [self.make_subnet(one) for one in call.body.get("subnets", [])],
            "created": stamp,
            "updated": stamp,
        }

    def make_subnet(self, body: Thing) -> Thing:
        try:
            ipaddress.ip_network(body["ipv4"])
        except ValueError:
            raise Refused(400, "", "Must be an IPv4 network", "ipv4") from None
        stamp = self.clock.stamp("")
        return {"id": next(self.numbers), **body, "linodes": [], "created": stamp, "updated": stamp}

    def drop_vpcs(self, account: Account, thing: Thing) -> None:
        if any(subnet["linodes"] for subnet in thing["subnets"]):
            raise Refused(400, "", "The subnets of the VPC are in use")

    @on("POST", "/vpcs/{key}/subnets", body=SUBNET)
    def create_subnet(self, call: Call, key: str) -> Answer:
        subnet = self.make_subnet(call.body)
        call.account.find("vpcs", key)["subnets"].append(subnet)
        call.account.version += 1
        return Answer(200, subnet)

    @on("GET", "/vpcs/{key}/subnets", paged=True)
    def subnets(self, call: Call, key: str) -> Answer:
        return self.list_answer(call, "data", call.account.find("vpcs", key)["subnets"])

    @on("DELETE", "/vpcs/{key}/subnets/{subnet}")
    def delete_subnet(self, call: Call, key: str, subnet: str) -> Answer:
        vpc = call.account.find("vpcs", key)
        if self.subnet(call.account, int(subnet))["linodes"]:
            raise Refused(400, "", "The subnet is in use")
        vpc["subnets"] = [one for one in vpc["subnets"] if one["id"] != int(subnet)]
        call.account.version += 1
        return Answer(200, {})

    def make_ssh_keys(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        if len(call.body["ssh_key"].split()) < 2:
            raise Refused(400, "", "SSH Key is not valid", "ssh_key")
        return {**thing, "created": self.clock.stamp(""), **call.body}

    def make_images(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        """Of a disk; the ids of disks begin with the id of the instance."""
        instance = call.account.find("instances", call.body["disk_id"] // 10)
        label = call.body.get("label", f"{instance['label']} image")
        image = {
            **self.image(f"private/{thing['id']}", label, public=False),
            "description": call.body.get("description"),
            "created": self.clock.stamp(""),
            "tags": call.body.get("tags", []),
            "status": "creating",
            "created_by": "user",
        }
        self.in_time(call.account, lambda: image.update(status="available"))
        return image

    @on("GET", "/images/private/{key}")
    def private_image(self, call: Call, key: str) -> Answer:
        return Answer(200, call.account.find("images", f"private/{key}"))

    @on("GET", "/images/linode/{key}")
    def public_image(self, call: Call, key: str) -> Answer:
        return Answer(200, call.account.find("images", f"linode/{key}"))

    @on("DELETE", "/images/private/{key}")
    def delete_image(self, call: Call, key: str) -> Answer:
        call.account.drop("images", f"private/{key}")
        return Answer(200, {})

    def make_firewalls(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        stamp = self.clock.stamp("")
        firewall = {
            **thing,
            "label": call.body["label"],
            "rules": self.rules_of(call.body["rules"], 1),
            "status": "enabled",
            "tags": call.body.get("tags", []),
            "created": stamp,
            "updated": stamp,
        }
        for number in call.body.get("devices", {}).get("linodes", []):
            self.add_device(call.account, firewall, "linode", call.account.find("instances", number))
        return firewall

    @staticmethod
    def rules_of(body: Thing, version: int) -> Thing:
        for rule in [*body.get("inbound", []), *body.get("outbound", [])]:
            if rule["protocol"] in ("TCP", "UDP") and not rule.get("ports"):
                raise Refused(400, "", "Ports are required for TCP and UDP", "rules")
            for part in [*rule["addresses"].get("ipv4", []), *rule["addresses"].get("ipv6", [])]:
                if "/" not in part:
                    raise Refused(400, "", f"{part} must have a mask", "rules")
        digest = hashlib.md5(json.dumps(body, sort_keys=True).encode()).hexdigest()[:8]
        return {"inbound": [], "outbound": [], **body, "version": version, "fingerprint": digest}

    @on("GET", "/networking/firewalls/{key}/rules")
    def rules(self, call: Call, key: str) -> Answer:
        return Answer(200, call.account.find("firewalls", key)["rules"])

    @on("PUT", "/networking/firewalls/{key}/rules", body=RULES)
    def set_rules(self, call: Call, key: str) -> Answer:
        firewall = call.account.find("firewalls", key)
        firewall["rules"] = self.rules_of(call.body, firewall["rules"]["version"] + 1)
        call.account.version += 1
        return Answer(200, firewall["rules"])

    def add_device(self, account: Account, firewall: Thing, kind: str, thing: Thing) -> Thing:
        """A service can have one firewall at a time."""
        if any(place[0] == thing["id"] for place in account.stock.get("devices", {})):
            raise Refused(400, "", f"{kind} is already assigned to a firewall", "id")
        stamp = self.clock.stamp("")
        device = {
            "id": next(self.numbers),
            "created": stamp,
            "updated": stamp,
            "entity": {"id": thing["id"], "label": thing["label"], "type": kind,
                       "url": f"/v4/linode/instances/{thing['id']}"},
        }  # fmt: skip
        return account.put("devices", device, key=(thing["id"], firewall["id"]))

    @on("GET", "/networking/firewalls/{key}/devices", paged=True)
    def devices(self, call: Call, key: str) -> Answer:
        number = call.account.find("firewalls", key)["id"]
        things = [one for place, one in call.account.stock.get("devices", {}).items() if place[1] == number]
        return self.list_answer(call, "data", things)

    @on("POST", "/networking/firewalls/{key}/devices", body={"id!": int, "type!": {"linode", "nodebalancer"}})
    def create_device(self, call: Call, key: str) -> Answer:
        firewall, word = call.account.find("firewalls", key), call.body["type"]
        thing = call.account.find({"linode": "instances"}.get(word, "nodebalancers"), call.body["id"])
        return Answer(200, self.add_device(call.account, firewall, word, thing))

    @on("DELETE", "/networking/firewalls/{key}/devices/{device}")
    def delete_device(self, call: Call, key: str, device: str) -> Answer:
        number, stock = call.account.find("firewalls", key)["id"], call.account.stock.get("devices", {})
        for place, one in list(stock.items()):
            if place[1] == number and one["id"] == int(device):
                stock.pop(place)
                call.account.version += 1
                return Answer(200, {})
        raise Refused(404, "", "Not found")

    def drop_firewalls(self, account: Account, thing: Thing) -> None:
        stock = account.stock.get("devices", {})
        for place in [place for place in stock if place[1] == thing["id"]]:
            stock.pop(place)

    # -- volumes, load balancers ---------------------------------------------------------------------------------------

    def make_volumes(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        body = call.body
        if "region" not in body and "linode_id" not in body:
            raise Refused(400, "", "Must provide a region or a Linode ID", "region")
        if not 10 <= body.get("size", 20) <= 10240:
            raise Refused(400, "", "Must be 10-10240", "size")
        instance = call.account.find("instances", body["linode_id"]) if body.get("linode_id") else None
        stamp = self.clock.stamp("")
        volume = {
            **thing,
            "label": body["label"],
            "status": "creating",
            "size": body.get("size", 20),
            "region": instance["region"] if instance else self.known("regions", body["region"], "region")["id"],
            "linode_id": instance and instance["id"],
            "linode_label": instance and instance["label"],
            "tags": body.get("tags", []),
            "filesystem_path": f"/dev/disk/by-id/scsi-0Linode_Volume_{body['label']}",
            "hardware_type": "nvme",
            "encryption": body.get("encryption", "disabled"),
            "created": stamp,
            "updated": stamp,
        }
        self.in_time(call.account, lambda: volume.update(status="active"))
        return volume

    def drop_volumes(self, account: Account, thing: Thing) -> None:
        if thing["linode_id"]:
            raise Refused(400, "", "Volume must be detached before it can be deleted")

    @on("POST", "/volumes/{key}/attach", body={"linode_id!": int, "config_id": int, "persist_across_boots": bool})
    def attach_volume(self, call: Call, key: str) -> Answer:
        volume, instance = call.account.find("volumes", key), call.account.find("instances", call.body["linode_id"])
        if volume["linode_id"] or volume["region"] != instance["region"]:
            raise Refused(400, "", "Volume is attached elsewhere or in another region")
        volume.update(linode_id=instance["id"], linode_label=instance["label"])
        call.account.version += 1
        return Answer(200, volume)

    @on("POST", "/volumes/{key}/detach", body={})
    def detach_volume(self, call: Call, key: str) -> Answer:
        call.account.find("volumes", key).update(linode_id=None, linode_label=None)
        call.account.version += 1
        return Answer(200, {})

    @on("POST", "/volumes/{key}/resize", body={"size!": int})
    def resize_volume(self, call: Call, key: str) -> Answer:
        volume = call.account.find("volumes", key)
        if call.body["size"] <= volume["size"]:
            raise Refused(400, "", "Storage volumes can only be resized up", "size")
        volume["size"] = call.body["size"]
        call.account.version += 1
        return Answer(200, volume)

    def make_nodebalancers(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        four, six = self.new_address()
        stamp = self.clock.stamp("")
        balancer = {
            **thing,
            "label": call.body.get("label", f"balancer{thing['id']}"),
            "region": self.known("regions", call.body["region"], "region")["id"],
            "hostname": f"{four.replace('.', '-')}.ip.linodeusercontent.test",
            "ipv4": four,
            "ipv6": six,
            "client_conn_throttle": call.body.get("client_conn_throttle", 0),
            "tags": call.body.get("tags", []),
            "transfer": {"in": None, "out": None, "total": None},
            "created": stamp,
            "updated": stamp,
        }
        for config in call.body.get("configs", []):
            self.put_config(call.account, balancer, config)
        return balancer

    def put_config(self, account: Account, balancer: Thing, body: Thing) -> Thing:
        defaults = {
            "port": 80, "protocol": "http", "algorithm": "roundrobin", "stickiness": "none", "check": "none",
            "check_interval": 31, "check_timeout": 30, "check_attempts": 3, "check_path": "/", "check_body": "",
            "check_passive": True, "proxy_protocol": "none", "cipher_suite": "recommended", "ssl_cert": None,
            "ssl_key": None, "ssl_commonname": "", "ssl_fingerprint": "",
        }  # fmt: skip
        taken = [one for one in account.all("configs") if one["nodebalancer_id"] == balancer["id"]]
        if any(one["port"] == body.get("port", 80) for one in taken):
            raise Refused(400, "", "Port must be unique", "port")
        own = {name: value for name, value in body.items() if name != "nodes"}
        config = {"id": next(self.numbers), "nodebalancer_id": balancer["id"], **defaults, **own}
        config["nodes_status"] = {"up": 0, "down": 0}
        account.put("configs", config)
        for node in body.get("nodes", []):
            self.put_node(account, config, node)
        return config

    def put_node(self, account: Account, config: Thing, body: Thing) -> Thing:
        """The address must be a private one: of the old private network, or of a VPC with `subnet_id`."""
        if not ipaddress.ip_address(body["address"].partition(":")[0]).is_private:
            raise Refused(400, "", "Must be a private IPv4 address", "address")
        node = {
            "id": next(self.numbers),
            "config_id": config["id"],
            "nodebalancer_id": config["nodebalancer_id"],
            "mode": "accept",
            "weight": 100,
            "status": "unknown",
            **body,
        }
        return account.put("nodes", node)

    def drop_nodebalancers(self, account: Account, thing: Thing) -> None:
        for shelf in ("configs", "nodes"):
            stock = account.stock.get(shelf, {})
            for key in [key for key, one in stock.items() if one["nodebalancer_id"] == thing["id"]]:
                stock.pop(key)

    CONFIGS = "/nodebalancers/{key}/configs"

    @on("GET", CONFIGS, paged=True)
    def configs(self, call: Call, key: str) -> Answer:
        number = call.account.find("nodebalancers", key)["id"]
        things = [one for one in call.account.all("configs") if one["nodebalancer_id"] == number]
        return self.list_answer(call, "data", things)

    @on("POST", CONFIGS, body={**CONFIG, "nodes": [NODE]})
    def create_config(self, call: Call, key: str) -> Answer:
        return Answer(200, self.put_config(call.account, call.account.find("nodebalancers", key), call.body))

    @on("PUT", CONFIGS + "/{config}", body=CONFIG)
    def change_config(self, call: Call, key: str, config: str) -> Answer:
        thing = call.account.find("configs", config)
        thing.update(call.body)
        call.account.version += 1
        return Answer(200, thing)

    @on("DELETE", CONFIGS + "/{config}")
    def delete_config(self, call: Call, key: str, config: str) -> Answer:
        call.account.drop("configs", config)
        return Answer(200, {})

    @on("GET", CONFIGS + "/{config}/nodes", paged=True)
    def nodes(self, call: Call, key: str, config: str) -> Answer:
        things = [one for one in call.account.all("nodes") if str(one["config_id"]) == config]
        return self.list_answer(call, "data", things)

    @on("POST", CONFIGS + "/{config}/nodes", body=NODE)
    def create_node(self, call: Call, key: str, config: str) -> Answer:
        return Answer(200, self.put_node(call.account, call.account.find("configs", config), call.body))

    @on("DELETE", CONFIGS + "/{config}/nodes/{node}")
    def delete_node(self, call: Call, key: str, config: str, node: str) -> Answer:
        call.account.drop("nodes", node)
        return Answer(200, {})

    # -- DNS -----------------------------------------------------------------------------------------------------------

    def make_domains(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        if call.body["type"] == "master" and not call.body.get("soa_email"):
            raise Refused(400, "", "soa_email required when type=master", "soa_email")
        defaults = {
            "ttl_sec": 0, "retry_sec": 0, "refresh_sec": 0, "expire_sec": 0, "status": "active",
            "master_ips": [], "axfr_ips": [], "tags": [],
        }  # fmt: skip
        return {**thing, **defaults, **call.body}

    @on("GET", "/domains/{key}/records", paged=True)
    def records(self, call: Call, key: str) -> Answer:
        number = call.account.find("domains", key)["id"]
        things = [one for one in call.account.all("records") if one["domain"] == number]
        return self.list_answer(call, "data", without(things, {"domain"}))

    @on("POST", "/domains/{key}/records", body={
        **RECORD, "type!": {"A", "AAAA", "NS", "MX", "CNAME", "TXT", "SRV", "PTR", "CAA"},
    })  # fmt: skip
    def create_record(self, call: Call, key: str) -> Answer:
        domain, stamp = call.account.find("domains", key), self.clock.stamp("")
        defaults = {
            "name": "", "target": "", "ttl_sec": 0, "priority": 0, "weight": 0, "port": 0, "service": None,
            "protocol": None, "tag": None, "created": stamp, "updated": stamp,
        }  # fmt: skip
        record = {"id": next(self.numbers), **defaults, **call.body}
        call.account.put("records", {**record, "domain": domain["id"]})
        return Answer(200, record)

    @on("PUT", "/domains/{key}/records/{record}", body=RECORD)
    def change_record(self, call: Call, key: str, record: str) -> Answer:
        thing = call.account.find("records", record)
        thing.update(call.body)
        call.account.version += 1
        return Answer(200, without([thing], {"domain"})[0])

    @on("DELETE", "/domains/{key}/records/{record}")
    def delete_record(self, call: Call, key: str, record: str) -> Answer:
        call.account.drop("records", record)
        return Answer(200, {})

    @on("GET", "/profile")
    def whose(self, call: Call) -> Answer:
        return Answer(200, {"username": call.account.name, "email": "user@example.com", "restricted": False})

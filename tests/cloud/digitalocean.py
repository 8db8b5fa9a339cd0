"""DigitalOcean, API v2."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import uuid
from typing import Any

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Refused, Shape, Thing, Whole, on, without
from tests.cloud.fleet import NETWORK, Machine

REGIONS = {"fra1": "Frankfurt 1", "ams3": "Amsterdam 3", "nyc3": "New York 3", "lon1": "London 1"}
# Slug: memory, processors, disk, dollars a month.
SIZES = {
    "s-1vcpu-1gb": (1024, 1, 25, 6),
    "s-2vcpu-4gb": (4096, 2, 80, 24),
    "s-4vcpu-8gb": (8192, 4, 160, 48),
    "gpu-h100x1-80gb": (245760, 20, 720, 2522.6),
}
IMAGES = {"debian-13-x64": ("Debian", "13 x64"), "debian-12-x64": ("Debian", "12 x64")}
WORDS = {"running": "active", "stopped": "off", "pending": "new"}
FEATURES = ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"]


HOSTNAME = re.compile(r"[a-zA-Z0-9]?[a-z0-9A-Z.\-]{0,254}[a-z0-9A-Z]")
TAG = re.compile(r"[a-zA-Z0-9_\-:]{1,255}")
ENDS: Shape = {"addresses": [str], "droplet_ids": [int], "load_balancer_uids": [str], "tags": ([TAG], None)}
PORTS: Shape = {"protocol!": {"tcp", "udp", "icmp"}, "ports": str}
FIREWALL: Shape = {
    "name!": re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.\-]+"),
    "droplet_ids": ([int], None),
    "tags": ([TAG], None),
    "inbound_rules": ([{**PORTS, "sources!": ENDS}], None),
    "outbound_rules": ([{**PORTS, "destinations!": ENDS}], None),
}
FORWARDING: Shape = {
    "entry_protocol!": {"http", "https", "http2", "http3", "tcp", "udp"},
    "entry_port!": int,
    "target_protocol!": {"http", "https", "http2", "tcp", "udp"},
    "target_port!": int,
    "certificate_id": str,
    "tls_passthrough": bool,
}
BALANCER: Shape = {
    "name": str,
    "region": str,
    "size": {"lb-small", "lb-medium", "lb-large"},
    "size_unit": int,
    "algorithm": {"round_robin", "least_connections"},
    "forwarding_rules!": [FORWARDING],
    "health_check": {
        "protocol": {"http", "https", "tcp"},
        "port": int,
        "path": str,
        "check_interval_seconds": int,
        "response_timeout_seconds": int,
        "unhealthy_threshold": int,
        "healthy_threshold": int,
    },
    "sticky_sessions": {"type": {"cookies", "none"}, "cookie_name": str, "cookie_ttl_seconds": int},
    "redirect_http_to_https": bool,
    "enable_proxy_protocol": bool,
    "enable_backend_keepalive": bool,
    "http_idle_timeout_seconds": int,
    "vpc_uuid": str,
    "network": {"EXTERNAL", "INTERNAL"},
    "network_stack": {"IPV4", "DUALSTACK"},
    "type": {"REGIONAL", "REGIONAL_NETWORK", "GLOBAL"},
    "droplet_ids": [int],
    "tag": TAG,
    "project_id": str,
    "disable_lets_encrypt_dns_records": bool,
    "firewall": {"deny": [str], "allow": [str]},
}
RECORD: Shape = {
    "type!": {"A", "AAAA", "CAA", "CNAME", "MX", "NS", "SOA", "SRV", "TXT"},
    "name": str,
    "data": str,
    "priority": (int, None),
    "port": (int, None),
    "ttl": int,
    "weight": (int, None),
    "flags": (int, None),
    "tag": (str, None),
}
DROPLET: Shape = {
    "name": HOSTNAME,
    "names": [HOSTNAME],
    "region": str,
    "size!": str,
    "image!": (str, int),
    "ssh_keys": [(str, int)],
    "backups": bool,
    "backup_policy": {"*": object},
    "ipv6": bool,
    "monitoring": bool,
    "tags": ([TAG], None),
    "user_data": str,
    "private_networking": bool,
    "volumes": [str],
    "vpc_uuid": str,
    "with_droplet_agent": bool,
    "public_networking": bool,
}
ACTIONS = {
    "enable_backups", "disable_backups", "reboot", "power_cycle", "shutdown", "power_off", "power_on", "restore",
    "password_reset", "resize", "rebuild", "rename", "change_kernel", "enable_ipv6", "snapshot",
}  # fmt: skip


class DigitalOcean(Api):
    name, prefix = "digitalocean", "/digitalocean/v2"
    list_path, list_key, second_path = "/droplets", "droplets", "/vpcs"
    server_kinds = ("droplets",)
    paging = {"page": Whole(), "per_page": Whole(1, 200)}
    size_default, size_most = 20, 200
    kinds: tuple[Kind, ...] = (
        Kind(
            "vpcs",
            "/vpcs",
            "vpc",
            {
                "name!": re.compile(r"[a-zA-Z0-9\-.]+"),
                "region!": str,
                "description": str,
                "ip_range": str,
            },
            {"name!": str, "description": str, "default": {True}},
            unique="name",
        ),
        Kind("sizes", "/sizes", "size", deletable=False),
        Kind("regions", "/regions", "region", deletable=False),
        Kind(
            "images",
            "/images",
            "image",
            None,
            {"name": str, "distribution": str, "description": str},
            query={
                "type": {"application", "distribution"},
                "private": {"true", "false"},
                "tag_name": str,
            },
        ),
        Kind(
            "snapshots",
            "/snapshots",
            "snapshot",
            query={"resource_type": {"droplet", "volume"}},
            exact=("resource_type",),
        ),
        Kind(
            "volumes",
            "/volumes",
            "volume",
            {
                "name!": re.compile(r"[a-z][a-z0-9-]{0,63}"),
                "region!": str,
                "size_gigabytes!": int,
                "description": str,
                "filesystem_type": {"ext4", "xfs"},
                "filesystem_label": str,
                "tags": ([TAG], None),
                "snapshot_id": str,
            },
            query={"name": str, "region": str},
            exact=("name",),
        ),
        Kind("firewalls", "/firewalls", "firewall", FIREWALL, FIREWALL, unique="name", created=202),
        Kind("load_balancers", "/load_balancers", "load_balancer", BALANCER, BALANCER, unique="name", created=202),
    )

    # -- manners -----------------------------------------------------------------------------------------------------

    def make_token(self, account: str) -> str:
        return "dop_v1_" + hashlib.sha256(f"digitalocean {account}".encode()).hexdigest()

    def fresh_limits(self) -> list[Limit]:
        return [Limit(5000, 3600), Limit(250, 60)]

    def limit_headers(self) -> dict[str, str]:
        hour = self.limits[0]
        return {
            "ratelimit-limit": str(hour.most),
            "ratelimit-remaining": str(hour.left),
            "ratelimit-reset": str(int(hour.free_at(self.clock.now()))),
        }

    def over_limit(self, limit: Limit) -> Answer:
        now = self.clock.now()
        body = {"id": "too_many_requests", "message": "API rate limit exceeded."}
        if limit.seconds >= 3600:
            # The documents promise retry-after for the limit of a minute only.
            return Answer(429, body, {"ratelimit-remaining": "0"})
        wait = str(max(int(limit.free_at(now) - now), 0) + 1)
        return Answer(429, body, {"retry-after": wait, "ratelimit-limit": str(limit.most), "ratelimit-remaining": "0"})

    def error(self, status: int, code: str, message: str, field: str | None = None) -> Answer:
        code = {"invalid_input": "unprocessable_entity", "": "bad_request"}.get(code, code)
        request = str(uuid.UUID(int=next(self.numbers)))
        return Answer(status, {"id": code, "message": message, "request_id": request}, {"x-request-id": request})

    def bad_token(self) -> Answer:
        return Answer(401, {"id": "unauthorized", "message": "Unable to authenticate you."})

    def no_scope(self) -> Answer:
        return Answer(403, {"id": "forbidden", "message": "You are not authorized to perform this operation"})

    def list_answer(self, call: Call, key: str, things: list[Thing]) -> Answer:
        part, page, pages, size = self.numbered(call, things)

        def _address(number: int) -> str:
            rest = "".join(f"&{n}={v}" for n, vs in call.query.items() if n not in ("page", "per_page") for v in vs)
            return f"{call.base}{call.path}?page={number}&per_page={size}{rest}"

        links: dict[str, str] = {}
        if page > 1:
            links |= {"first": _address(1), "prev": _address(page - 1)}
        if page < pages:
            links |= {"next": _address(page + 1), "last": _address(pages)}
        body = {key: part, "links": {"pages": links} if links else {}, "meta": {"total": len(things)}}
        return Answer(200, body)

    # -- what there is -----------------------------------------------------------------------------------------------

    def make_catalog(self) -> dict[str, list[Thing]]:
        sizes = [
            {
                "slug": slug,
                "memory": memory,
                "vcpus": cpus,
                "disk": disk,
                "transfer": 1.0,
                "price_monthly": dollars,
                "price_hourly": round(dollars / 672, 5),
                "regions": list(REGIONS),
                "available": True,
                "description": "GPU" if slug.startswith("gpu") else "Basic",
            }
            for slug, (memory, cpus, disk, dollars) in SIZES.items()
        ]
        regions = [
            {"name": name, "slug": slug, "features": FEATURES, "available": True, "sizes": list(SIZES)}
            for slug, name in REGIONS.items()
        ]
        images = [
            {
                "id": number,
                "name": name,
                "distribution": distribution,
                "slug": slug,
                "public": True,
                "regions": list(REGIONS),
                "created_at": "2024-01-01T00:00:00Z",
                "type": "base",
                "min_disk_size": 7,
                "size_gigabytes": 2.36,
                "description": f"{distribution} {name}",
                "tags": [],
                "status": "available",
                "error_message": "",
            }
            for number, (slug, (distribution, name)) in enumerate(IMAGES.items(), 63663980)
        ]
        return {"sizes": sizes, "regions": regions, "distributions": images}

    def fill(self, account: Account, machines: list[Machine]) -> None:
        account.stock["images"] = {one["id"]: one for one in self.catalog["distributions"]}
        for one in machines:
            account.put("droplets", self.rendered(account, one))

    def vpc_of(self, account: Account, region: str) -> Thing:
        """The one that a region has from the start."""
        for known in account.all("vpcs"):
            if known["region"] == region and known["default"]:
                return known
        number = list(REGIONS).index(region)
        vpc = self.make_vpc(f"{NETWORK}-{region}", region, f"10.{100 + number}.0.0/16")
        return account.put("vpcs", {**vpc, "default": True})

    def make_vpc(self, name: str, region: str, ip_range: str, description: str = "") -> Thing:
        number = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.vpc.test"))
        return {
            "id": number,
            "urn": f"do:vpc:{number}",
            "name": name,
            "description": description,
            "region": region,
            "ip_range": ip_range,
            "default": False,
            "created_at": "2024-01-01T00:00:00Z",
        }

    def rendered(self, account: Account, one: Machine) -> Thing:
        gpu = one.special == "gpu"
        sizes = [size for size in self.catalog["sizes"] if size["slug"].startswith("gpu") == gpu]
        regions, images = self.catalog["regions"], self.catalog["distributions"]
        region = regions[one.place % len(regions)]
        droplet = self.make_droplet(
            one.number,
            name=one.name,
            size=sizes[one.place % len(sizes)],
            region=region,
            image=images[one.place % len(images)],
            status=WORDS.get(one.status, one.status),
            created=one.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            tags=one.words(),
            vpc=self.vpc_of(account, region["slug"])["id"],
            ipv4=one.public_ipv4,
            ipv6=one.public_ipv6,
            private=one.private_ipv4,
        )
        if one.change:
            one.change(droplet)
        return droplet

    @staticmethod
    def make_droplet(
        number: int,
        name: str,
        size: Thing,
        region: Thing,
        image: Thing,
        status: str,
        created: str,
        tags: list[str],
        vpc: str | None,
        ipv4: str | None,
        ipv6: str | None,
        private: str | None,
    ) -> Thing:
        v4 = []
        if private:
            v4.append({"ip_address": private, "netmask": "255.255.0.0", "gateway": "nil", "type": "private"})
        if ipv4:
            gateway = ipv4.rpartition(".")[0] + ".1"
            v4.append({"ip_address": ipv4, "netmask": "255.255.240.0", "gateway": gateway, "type": "public"})
        v6 = []
        if ipv6:
            gateway = ipv6.rpartition("::")[0] + "::ffff"
            v6.append({"ip_address": ipv6, "netmask": 64, "gateway": gateway, "type": "public"})
        return {
            "id": number,
            "name": name,
            "memory": size["memory"],
            "vcpus": size["vcpus"],
            "disk": size["disk"],
            "disk_info": [{"type": "local", "size": {"amount": size["disk"], "unit": "gib"}}],
            "locked": False,
            "status": status,
            "kernel": None,
            "created_at": created,
            "features": ["private_networking", "ipv6"],
            "backup_ids": [],
            "next_backup_window": None,
            "snapshot_ids": [],
            "image": image,
            "volume_ids": [],
            "size": size,
            "size_slug": size["slug"],
            "networks": {"v4": v4, "v6": v6},
            "region": region,
            "tags": tags,
            "vpc_uuid": vpc,
        }

    @on("GET", "/droplets", {"tag_name": str, "name": str, "type": {"droplets", "gpus"}}, paged=True)
    def droplets(self, call: Call) -> Answer:
        if "tag_name" in call.query and len({"name", "type"} & set(call.query)):
            call.problems.append("tag_name can not be combined with name or type")
        gpu = call.one("type") == "gpus"
        things = [one for one in call.account.all("droplets") if one["size_slug"].startswith("gpu") == gpu]
        if "tag_name" in call.query:
            things = [one for one in call.account.all("droplets") if call.one("tag_name") in one["tags"]]
        if "name" in call.query:
            things = [one for one in things if one["name"].lower() == call.one("name").lower()]
        answer = self.list_answer(call, "droplets", things)
        answer.body["droplets"] = without(answer.body["droplets"], call.account.unseen)
        return answer

    @on("GET", "/droplets/{key}")
    def droplet(self, call: Call, key: str) -> Answer:
        thing = call.account.find("droplets", key)
        return Answer(200, {"droplet": without([thing], call.account.unseen)[0]})

    # -- droplets -----------------------------------------------------------------------------------------------------

    @on("POST", "/droplets", body=DROPLET)
    def create_droplet(self, call: Call) -> Answer:
        body = call.body
        if ("name" in body) == ("names" in body) or len(body.get("names", [])) > 10:
            raise Refused(422, "unprocessable_entity", "Either name or up to ten names must be given.")
        droplets = [self.one_droplet(call, name) for name in body.get("names") or [body["name"]]]
        actions = [self.action(call, "create", one["id"], one["region"]["slug"]) for one in droplets]
        links = [{"id": one["id"], "rel": "create", "href": f"{call.base}/actions/{one['id']}"} for one in actions]
        if "names" in body:
            return Answer(202, {"droplets": droplets, "links": {"actions": links}})
        return Answer(202, {"droplet": droplets[0], "links": {"actions": links}})

    def one_droplet(self, call: Call, name: str) -> Thing:
        """Names need not be unique. The addresses come with the boot: there are none in the first answer."""
        body, account = call.body, call.account
        size = self.slugged("sizes", body["size"], "You specified an invalid size for Droplet creation.")
        region = self.slugged("regions", body.get("region", "nyc3"), "You specified an invalid region.")
        image = next((one for one in account.all("images") if body["image"] in (one["slug"], one["id"])), None)
        if image is None:
            raise Refused(422, "unprocessable_entity", "You specified an invalid image for Droplet creation.")
        known = {key for one in account.all("ssh_keys") for key in (one["id"], str(one["id"]), one["fingerprint"])}
        if set(body.get("ssh_keys", [])) - known:
            raise Refused(422, "unprocessable_entity", "ssh_keys are invalid key identifiers for Droplet creation.")
        vpc = account.find("vpcs", body["vpc_uuid"]) if "vpc_uuid" in body else self.vpc_of(account, region["slug"])
        if vpc["region"] != region["slug"]:
            raise Refused(422, "unprocessable_entity", "The VPC is in another region.")
        droplet = self.make_droplet(
            next(self.numbers),
            name=name,
            size=size,
            region=region,
            image=image,
            status="new",
            created=self.clock.stamp("Z"),
            tags=list(body.get("tags") or []),
            vpc=vpc["id"],
            ipv4=None,
            ipv6=None,
            private=None,
        )
        for volume in body.get("volumes", []):
            self.attach(account, account.find("volumes", volume), droplet)
        for tag in droplet["tags"]:
            account.put("tags", {"name": tag}, tag)
        number = len([one for one in account.all("droplets") if one["vpc_uuid"] == vpc["id"]])
        private = str(ipaddress.ip_network(vpc["ip_range"])[number + 2])
        four, six = self.new_address()
        public = body.get("public_networking", True)
        ready = self.make_droplet(
            0, name, size, region, image, "active", "", [], "", four if public else None,
            six if public and body.get("ipv6") else None, private,
        )  # fmt: skip
        self.in_time(account, lambda: droplet.update(status="active", networks=ready["networks"]))
        boot = {"user_data": body.get("user_data"), "ssh_keys": body.get("ssh_keys", [])}
        account.put("first_boots", boot, droplet["id"])
        return account.put("droplets", droplet)

    def slugged(self, kind: str, slug: str, message: str) -> Thing:
        for one in self.catalog[kind]:
            if one["slug"] == slug:
                return one
        raise Refused(422, "unprocessable_entity", message)

    @on("DELETE", "/droplets/{key}")
    def delete_droplet(self, call: Call, key: str) -> Answer:
        account, droplet = call.account, call.account.find("droplets", key)
        account.drop("droplets", key)
        for volume in account.all("volumes"):
            volume["droplet_ids"] = [one for one in volume["droplet_ids"] if one != droplet["id"]]
        for kind in ("firewalls", "load_balancers"):
            for one in account.all(kind):
                one["droplet_ids"] = [number for number in one["droplet_ids"] if number != droplet["id"]]
        return Answer(204)

    @on("POST", "/droplets/{key}/actions", body={
        "type!": ACTIONS, "size": str, "disk": bool, "name": str, "image": (str, int), "kernel": int,
        "backup_policy": {"*": object},
    })  # fmt: skip
    def droplet_action(self, call: Call, key: str) -> Answer:
        account, droplet, word = call.account, call.account.find("droplets", key), call.body["type"]
        after = {
            "power_on": "active",
            "power_off": "off",
            "shutdown": "off",
            "reboot": "active",
            "power_cycle": "active",
        }
        if word == "resize":
            if droplet["status"] != "off":
                raise Refused(422, "unprocessable_entity", "Droplet must be powered off for resizing.")
            size = self.slugged("sizes", call.body.get("size", ""), "You specified an invalid size.")
            if call.body.get("disk") and size["disk"] < droplet["disk"]:
                raise Refused(422, "unprocessable_entity", "The disk can not be made smaller.")
            change = {"size": size, "size_slug": size["slug"], "memory": size["memory"], "vcpus": size["vcpus"]}
            if call.body.get("disk"):
                change["disk"] = size["disk"]
            self.in_time(account, lambda: droplet.update(change))
        elif word == "rename":
            droplet["name"] = call.body["name"]
        elif word == "snapshot":
            self.snapshot(account, droplet, call.body.get("name", f"{droplet['name']}-snapshot"))
        elif word in after:
            self.in_time(account, lambda: droplet.update(status=after[word]))
        account.version += 1
        return Answer(201, {"action": self.action(call, word, droplet["id"], droplet["region"]["slug"])})

    def snapshot(self, account: Account, droplet: Thing, name: str) -> None:
        """It is there, and among the images, when it is done."""
        number = next(self.numbers)
        snapshot = {
            "id": str(number),
            "name": name,
            "created_at": self.clock.stamp("Z"),
            "regions": [droplet["region"]["slug"]],
            "resource_id": str(droplet["id"]),
            "resource_type": "droplet",
            "min_disk_size": droplet["disk"],
            "size_gigabytes": 2.34,
            "tags": [],
        }
        image = {**droplet["image"], "id": number, "name": name, "slug": None, "public": False, "type": "snapshot"}

        def _finish() -> None:
            account.put("snapshots", snapshot, str(number))
            account.put("images", image)
            droplet["snapshot_ids"].append(number)

        self.in_time(account, _finish)

    @on("GET", "/droplets/{key}/snapshots", paged=True)
    def droplet_snapshots(self, call: Call, key: str) -> Answer:
        things = [one for one in call.account.all("snapshots") if one["resource_id"] == key]
        return self.list_answer(call, "snapshots", things)

    def action(self, call: Call, word: str, number: int | None, region: str, kind: str = "droplet") -> Thing:
        action = {
            "id": next(self.numbers),
            "status": "in-progress",
            "type": word,
            "started_at": self.clock.stamp("Z"),
            "completed_at": None,
            "resource_id": number,
            "resource_type": kind,
            "region": self.slugged("regions", region, ""),
            "region_slug": region,
        }
        call.account.put("actions", action)
        self.in_time(call.account, lambda: action.update(status="completed", completed_at=self.clock.stamp("Z")))
        return dict(action)

    @on("GET", "/actions/{key}")
    def one_action(self, call: Call, key: str) -> Answer:
        return Answer(200, {"action": call.account.find("actions", key)})

    @on("GET", "/droplets/{droplet}/actions/{key}")
    @on("GET", "/volumes/{droplet}/actions/{key}")
    def action_of(self, call: Call, droplet: str, key: str) -> Answer:
        return self.one_action(call, key)

    # -- tags ---------------------------------------------------------------------------------------------------------

    @on("GET", "/tags", paged=True)
    def tags(self, call: Call) -> Answer:
        names = sorted({tag for one in call.account.all("droplets") for tag in one["tags"]} | {
            one["name"] for one in call.account.all("tags")
        })  # fmt: skip
        return self.list_answer(call, "tags", [{"name": name, "resources": self.tagged(call, name)} for name in names])

    @staticmethod
    def tagged(call: Call, name: str) -> Thing:
        count = sum(name in one["tags"] for one in call.account.all("droplets"))
        return {"count": count, "droplets": {"count": count}}

    @on("POST", "/tags", body={"name!": TAG})
    def create_tag(self, call: Call) -> Answer:
        call.account.put("tags", {"name": call.body["name"]}, call.body["name"])
        return Answer(201, {"tag": {"name": call.body["name"], "resources": self.tagged(call, call.body["name"])}})

    RESOURCES = {"resources!": [{"resource_id!": str, "resource_type!": {"droplet", "image", "volume"}}]}

    @on("POST", "/tags/{name}/resources", body=RESOURCES)
    def tag_resources(self, call: Call, name: str) -> Answer:
        if name not in call.account.stock.get("tags", {}):
            raise Refused(404, "not_found", "The tag does not exist.")
        for one in call.body["resources"]:
            thing = call.account.find(one["resource_type"] + "s", one["resource_id"])
            thing["tags"] = [*(tag for tag in thing["tags"] if tag != name), name]
        call.account.version += 1
        return Answer(204)

    @on("DELETE", "/tags/{name}/resources", body=RESOURCES)
    def untag_resources(self, call: Call, name: str) -> Answer:
        for one in call.body["resources"]:
            thing = call.account.find(one["resource_type"] + "s", one["resource_id"])
            thing["tags"] = [tag for tag in thing["tags"] if tag != name]
        call.account.version += 1
        return Answer(204)

    # -- networks, keys, firewalls ------------------------------------------------------------------------------------

    def make_vpcs(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        region = self.slugged("regions", call.body["region"], "region is invalid")["slug"]
        number = len(call.account.all("vpcs"))
        try:
            part = ipaddress.ip_network(call.body.get("ip_range", f"10.{110 + number}.0.0/20"))
        except ValueError:
            raise Refused(422, "unprocessable_entity", "ip_range is invalid") from None
        if not part.is_private or not 16 <= part.prefixlen <= 28:
            raise Refused(422, "unprocessable_entity", "ip_range must be private, from /28 to /16")
        return self.make_vpc(call.body["name"], region, str(part), call.body.get("description", ""))

    def drop_vpcs(self, account: Account, thing: Thing) -> None:
        if thing["default"] or any(one["vpc_uuid"] == thing["id"] for one in account.all("droplets")):
            raise Refused(403, "forbidden", "Can not delete VPC with members")

    @on("GET", "/account/keys", paged=True)
    def keys(self, call: Call) -> Answer:
        return self.list_answer(call, "ssh_keys", call.account.all("ssh_keys"))

    @on("POST", "/account/keys", body={"name!": str, "public_key!": str})
    def create_key(self, call: Call) -> Answer:
        words = call.body["public_key"].split()
        if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
            raise Refused(422, "unprocessable_entity", "Key invalid, key should be of the format `ssh-rsa AAAA...`")
        digest = hashlib.md5(words[1].encode()).hexdigest()
        print_ = ":".join(digest[n : n + 2] for n in range(0, 32, 2))
        if any(one["fingerprint"] == print_ for one in call.account.all("ssh_keys")):
            raise Refused(422, "unprocessable_entity", "SSH Key is already in use on your account")
        key = {"id": next(self.numbers), "fingerprint": print_, **call.body}
        return Answer(201, {"ssh_key": call.account.put("ssh_keys", key)})

    @on("DELETE", "/account/keys/{key}")
    def delete_key(self, call: Call, key: str) -> Answer:
        for one in call.account.all("ssh_keys"):
            if key in (str(one["id"]), one["fingerprint"]):
                call.account.drop("ssh_keys", one["id"])
                return Answer(204)
        raise Refused(404, "not_found", "The resource you were accessing could not be found.")

    def new_id(self, kind: str) -> Any:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{next(self.numbers)}.{kind}.test"))

    def make_firewalls(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        return {**thing, "created_at": self.clock.stamp("Z"), **self.firewall_of(call)}

    @staticmethod
    def firewall_of(call: Call) -> Thing:
        """What is not given has its default value: a change is a whole new firewall."""
        body = call.body
        if not (body.get("inbound_rules") or body.get("outbound_rules")):
            raise Refused(422, "unprocessable_entity", "must have at least one inbound or outbound rule")
        for rule in [*(body.get("inbound_rules") or []), *(body.get("outbound_rules") or [])]:
            if rule["protocol"] != "icmp" and "ports" not in rule:
                raise Refused(422, "unprocessable_entity", "ports are required for tcp and udp")
        for tag in body.get("tags") or []:
            if not any(tag in one["tags"] for one in call.account.all("droplets")):
                call.account.find("tags", tag)
        for number in body.get("droplet_ids") or []:
            call.account.find("droplets", number)
        return {
            "name": body["name"],
            "status": "succeeded",
            "pending_changes": [],
            "droplet_ids": body.get("droplet_ids") or [],
            "tags": body.get("tags") or [],
            "inbound_rules": body.get("inbound_rules") or [],
            "outbound_rules": body.get("outbound_rules") or [],
        }

    def changer(self, kind: Kind) -> Any:
        if kind.name not in ("firewalls", "load_balancers"):
            return super().changer(kind)

        def _change(call: Call, key: str) -> Answer:
            thing = call.account.find(kind.name, key)
            thing.update(self.firewall_of(call) if kind.name == "firewalls" else self.balancer_of(call, thing))
            call.account.version += 1
            return Answer(200, {kind.one: thing})

        return _change

    IDS = {"droplet_ids!": [int]}

    @on("POST", "/firewalls/{key}/droplets", body=IDS)
    @on("POST", "/load_balancers/{key}/droplets", body=IDS)
    def add_droplets(self, call: Call, key: str) -> Answer:
        thing = call.account.find(call.path.split("/")[1], key)
        for number in call.body["droplet_ids"]:
            call.account.find("droplets", number)
        thing["droplet_ids"] = sorted({*thing["droplet_ids"], *call.body["droplet_ids"]})
        call.account.version += 1
        return Answer(204)

    @on("DELETE", "/firewalls/{key}/droplets", body=IDS)
    @on("DELETE", "/load_balancers/{key}/droplets", body=IDS)
    def remove_droplets(self, call: Call, key: str) -> Answer:
        thing = call.account.find(call.path.split("/")[1], key)
        thing["droplet_ids"] = sorted({*thing["droplet_ids"]} - {*call.body["droplet_ids"]})
        call.account.version += 1
        return Answer(204)

    # -- volumes, load balancers --------------------------------------------------------------------------------------

    def make_volumes(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        body, region = call.body, self.slugged("regions", call.body["region"], "region is invalid")
        if any((one["name"], one["region"]["slug"]) == (body["name"], body["region"])
               for one in call.account.all("volumes")):  # fmt: skip
            raise Refused(409, "conflict", "a volume with that name already exists in the region")
        return {
            **thing,
            "name": body["name"],
            "droplet_ids": [],
            "description": body.get("description", ""),
            "size_gigabytes": body["size_gigabytes"],
            "created_at": self.clock.stamp("Z"),
            "tags": body.get("tags") or [],
            "region": region,
            "filesystem_type": body.get("filesystem_type", ""),
            "filesystem_label": body.get("filesystem_label", ""),
        }

    @staticmethod
    def attach(account: Account, volume: Thing, droplet: Thing) -> None:
        if volume["droplet_ids"]:
            raise Refused(422, "unprocessable_entity", "This volume is already attached")
        if volume["region"]["slug"] != droplet["region"]["slug"]:
            raise Refused(422, "unprocessable_entity", "The volume is in another region")
        volume["droplet_ids"] = [droplet["id"]]
        droplet["volume_ids"].append(volume["id"])
        account.version += 1

    def drop_volumes(self, account: Account, thing: Thing) -> None:
        if thing["droplet_ids"]:
            raise Refused(409, "conflict", "a volume that's attached to a Droplet cannot be deleted")

    @on("POST", "/volumes/{key}/actions", body={
        "type!": {"attach", "detach", "resize"}, "droplet_id": int, "region": str, "size_gigabytes": int,
        "tags": ([TAG], None),
    })  # fmt: skip
    def volume_action(self, call: Call, key: str) -> Answer:
        volume, body = call.account.find("volumes", key), call.body
        if body["type"] == "attach":
            self.attach(call.account, volume, call.account.find("droplets", body.get("droplet_id", 0)))
        elif body["type"] == "detach":
            droplet = call.account.find("droplets", body.get("droplet_id", 0))
            volume["droplet_ids"] = []
            droplet["volume_ids"] = [one for one in droplet["volume_ids"] if one != volume["id"]]
        else:
            if body.get("size_gigabytes", 0) < volume["size_gigabytes"]:
                raise Refused(422, "unprocessable_entity", "Volumes can only be made larger")
            volume["size_gigabytes"] = body["size_gigabytes"]
        call.account.version += 1
        return Answer(202, {"action": self.action(call, body["type"], None, volume["region"]["slug"], "volume")})

    def make_load_balancers(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        four, _six = self.new_address()
        balancer = {**thing, "ip": "", "status": "new", "created_at": self.clock.stamp("Z")}
        balancer |= self.balancer_of(call, balancer)
        self.in_time(call.account, lambda: balancer.update(ip=four, status="active"))
        return balancer

    def balancer_of(self, call: Call, old: Thing) -> Thing:
        body = call.body
        if "droplet_ids" in body and "tag" in body:
            raise Refused(422, "unprocessable_entity", "either droplet_ids or tag, not both")
        for number in body.get("droplet_ids", []):
            call.account.find("droplets", number)
        region = self.slugged("regions", body.get("region", "nyc3"), "region is invalid")
        defaults = {
            "name": "", "size_unit": 1, "algorithm": "round_robin", "droplet_ids": [], "tag": "",
            "redirect_http_to_https": False, "enable_proxy_protocol": False, "enable_backend_keepalive": False,
            "vpc_uuid": self.vpc_of(call.account, region["slug"])["id"], "network": "EXTERNAL", "type": "REGIONAL",
            "health_check": {
                "protocol": "http", "port": 80, "path": "/", "check_interval_seconds": 10,
                "response_timeout_seconds": 5, "unhealthy_threshold": 5, "healthy_threshold": 3,
            },
            "sticky_sessions": {"type": "none"},
        }  # fmt: skip
        return {**defaults, **body, "region": region}

    # -- DNS ----------------------------------------------------------------------------------------------------------

    @on("GET", "/domains", paged=True)
    def domains(self, call: Call) -> Answer:
        return self.list_answer(call, "domains", call.account.all("domains"))

    @on("GET", "/domains/{name}")
    def domain(self, call: Call, name: str) -> Answer:
        return Answer(200, {"domain": call.account.find("domains", name)})

    @on("POST", "/domains", body={"name!": str, "ip_address": str})
    def create_domain(self, call: Call) -> Answer:
        name = call.body["name"]
        if name in call.account.stock.get("domains", {}):
            raise Refused(422, "unprocessable_entity", f"domain '{name}': name already exists")
        domain = call.account.put("domains", {"name": name, "ttl": 1800, "zone_file": f"$ORIGIN {name}.\n"}, name)
        if "ip_address" in call.body:
            self.put_record(call.account, name, {"type": "A", "name": "@", "data": call.body["ip_address"]})
        return Answer(201, {"domain": domain})

    @on("DELETE", "/domains/{name}")
    def delete_domain(self, call: Call, name: str) -> Answer:
        call.account.drop("domains", name)
        return Answer(204)

    def put_record(self, account: Account, domain: str, body: Thing) -> Thing:
        blank = dict.fromkeys(("priority", "port", "weight", "flags", "tag"))
        record = {"id": next(self.numbers), **blank, "ttl": 1800, **body}
        account.put("records", {**record, "domain": domain}, record["id"])
        return record

    def record(self, call: Call, name: str, key: str) -> Thing:
        call.account.find("domains", name)
        return call.account.find("records", key)

    @on("GET", "/domains/{name}/records", {"name": str, "type": str}, paged=True)
    def records(self, call: Call, name: str) -> Answer:
        call.account.find("domains", name)
        things = [one for one in call.account.all("records") if one["domain"] == name]
        if "type" in call.query:
            things = [one for one in things if one["type"] == call.one("type")]
        if "name" in call.query:
            # The filter wants the whole name, with the domain.
            things = [one for one in things
                      if (name if one["name"] == "@" else f"{one['name']}.{name}") == call.one("name")]  # fmt: skip
        return self.list_answer(call, "domain_records", without(things, {"domain"}))

    @on("POST", "/domains/{name}/records", body=RECORD)
    def create_record(self, call: Call, name: str) -> Answer:
        call.account.find("domains", name)
        if not call.body.get("name") or not call.body.get("data"):
            raise Refused(422, "unprocessable_entity", "Name and data can't be blank")
        return Answer(201, {"domain_record": self.put_record(call.account, name, call.body)})

    @on("PUT", "/domains/{name}/records/{key}", body=RECORD)
    @on("PATCH", "/domains/{name}/records/{key}", body=RECORD)
    def change_record(self, call: Call, name: str, key: str) -> Answer:
        record = self.record(call, name, key)
        record.update(call.body)
        return Answer(200, {"domain_record": without([record], {"domain"})[0]})

    @on("DELETE", "/domains/{name}/records/{key}")
    def delete_record(self, call: Call, name: str, key: str) -> Answer:
        self.record(call, name, key)
        call.account.drop("records", key)
        return Answer(204)

    @on("GET", "/account")
    def whose(self, call: Call) -> Answer:
        return Answer(200, {
            "account": {
                "droplet_limit": 25, "floating_ip_limit": 5, "email": "user@example.com", "uuid": "b6fr89db",
                "email_verified": True, "status": "active", "status_message": "", "name": call.account.name,
            }
        })  # fmt: skip

"""DigitalOcean, API v2."""

from __future__ import annotations

import hashlib
import uuid

from tests.cloud.api import Account, Answer, Api, Call, Kind, Limit, Thing, Whole, on, without
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


class DigitalOcean(Api):
    name, prefix = "digitalocean", "/digitalocean/v2"
    list_path, list_key, second_path = "/droplets", "droplets", "/vpcs"
    server_kinds = ("droplets",)
    paging = {"page": Whole(), "per_page": Whole(1, 200)}
    size_default, size_most = 20, 200
    kinds: tuple[Kind, ...] = (
        Kind("vpcs", "/vpcs", "vpc", None, None),
        Kind("sizes", "/sizes", "size", deletable=False),
        Kind("regions", "/regions", "region", deletable=False),
    )

    # -- manners -------------------------------------------------------------------------------------------------------

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

    # -- what there is -------------------------------------------------------------------------------------------------

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

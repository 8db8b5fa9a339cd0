# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""DNS where each address is a record of its own: at all of the four but Hetzner, which has sets of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .build import Cloud
from .plan import Resource

RECORD_TTL_SECONDS = 300


def zone_of(domain: str, zones: Collection[str]) -> str:
    """The longest zone that holds a domain, empty if none does."""
    return max((zone for zone in zones if domain == zone or domain.endswith(f".{zone}")), key=len, default="")


class SingleRecords(Cloud):
    """@param zones: the name of each zone and what addresses call it by
    @param paths: kind to the address of its list
    """

    paths: Mapping[str, str] = {}
    # What the API calls a list of records, the value of a record, its time to live, and the zone itself in names.
    records_key = "records"
    value_key = "data"
    ttl_key = "ttl"
    apex = ""
    zones: Mapping[str, Any] = {}

    def read_zones(self) -> dict[str, Any]:
        raise NotImplementedError

    def records(self, domains: Collection[str]) -> list[Resource]:
        if not domains:
            return []
        self.zones = self.read_zones()
        places = {domain: zone_of(domain, self.zones) for domain in domains}
        self.missing_zones = [domain for domain, zone in places.items() if not zone]
        sets: dict[tuple[str, str], dict[str, str]] = {}
        for zone in sorted({zone for zone in places.values() if zone}):
            for one in self.api.list_all(f"/domains/{self.zones[zone]}/records", self.records_key):
                domain = f"{one['name']}.{zone}" if one["name"] != self.apex else zone
                if places.get(domain) == zone and one["type"] in ("A", "AAAA"):
                    sets.setdefault((domain, one["type"]), {})[one[self.value_key]] = str(one["id"])
        return [
            Resource(
                "record", self.provider, f"{domain} {kind}", {"type": kind, "values": sorted(ids)},
                ",".join(ids.values()), facts={"domain": domain, "ids": ids},
            )
            for (domain, kind), ids in sets.items()
        ]  # fmt: skip

    def record_body(self, record: Resource, value: str) -> dict[str, Any]:
        domain = record.facts["domain"]
        zone = zone_of(domain, self.zones)
        name = self.apex if domain == zone else domain.removesuffix(f".{zone}")
        return {"type": record.spec["type"], "name": name, self.value_key: value, self.ttl_key: RECORD_TTL_SECONDS}

    def detach(self, volume: Resource) -> None:
        raise NotImplementedError

    def destroy(self, existing: Resource) -> None:
        if existing.kind == "record":
            self.remove_values(existing, existing.spec["values"])
            return
        if existing.kind == "volume":
            self.detach(existing)
        self.api.delete(f"{self.paths[existing.kind]}/{existing.id}")

    def add_values(self, record: Resource, values: Iterable[str]) -> None:
        for value in values:
            self.api.post(f"{self.record_path(record)}", self.record_body(record, value))

    def remove_values(self, record: Resource, values: Iterable[str]) -> None:
        for value in values:
            self.api.delete(f"{self.record_path(record)}/{record.facts['ids'][value]}")

    def record_path(self, record: Resource) -> str:
        return f"/domains/{self.zones[zone_of(record.facts['domain'], self.zones)]}/records"

    def change_record(self, wanted: Resource, existing: Resource) -> None:
        """New addresses first: the name is never without one."""
        was, now = existing.spec["values"], wanted.spec["values"]
        self.add_values(wanted, [value for value in now if value not in was])
        self.remove_values(existing, [value for value in was if value not in now])

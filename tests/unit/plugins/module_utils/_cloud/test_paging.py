"""A reading of a paged list is the whole list, or it says that it is not."""

from __future__ import annotations

import random
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils._cloud.connection import Answer
from plugins.module_utils._cloud.errors import CloudError
from plugins.module_utils._cloud.paging import ChangedError, Reading, seconds
from plugins.module_utils._cloud.providers import PROVIDERS

NOW = 1_790_000_000.0


class Shifting:
    """A list of servers that changes between two pages, as the API of a provider gives it.

    @param changes: what happens before each request: the id of one to delete, or the place where one is added
    """

    def __init__(self, provider: str, count: int, size: int, changes: dict[int, list[tuple[str, int]]]) -> None:
        self.provider, self.size, self.changes = PROVIDERS[provider], size, changes
        self.created = self.provider.created
        self.servers = [
            {"id": number, "region": f"r{number % 3}", self.created: "2024-01-01"} for number in range(count)
        ]
        self.always = {server["id"] for server in self.servers}
        self.ever = set(self.always)
        self.requests = 0

    def ask(self, query: Any) -> tuple[dict[str, Any], Answer]:
        for what, place in self.changes.get(self.requests, []):
            if what == "add":
                new = {"id": 1000 + len(self.ever), "region": "r0", self.created: formatted(NOW + self.requests)}
                self.servers.insert(place % (len(self.servers) + 1), new)
                self.ever.add(new["id"])
            elif self.servers:
                self.always.discard(self.servers.pop(place % len(self.servers))["id"])
        self.requests += 1
        servers = [one for one in self.servers if query.get("region") in (None, one["region"])]
        if self.provider.numbered:
            begin = (query["page"] - 1) * self.size
        else:
            known = [one["id"] for one in servers]
            begin = known.index(int(query["cursor"])) if query.get("cursor") and int(query["cursor"]) in known else 0
        part, total = servers[begin : begin + self.size], len(servers)
        more = begin + self.size < total
        body = {
            "Hetzner Cloud": {"meta": {"pagination": {"total_entries": total, "next_page": 2 if more else None}}},
            "DigitalOcean": {"meta": {"total": total}, "links": {"pages": {"next": "x"}} if more else {}},
            "Linode": {"results": total, "page": query.get("page"), "pages": max(-(-total // self.size), 1)},
            "Vultr": {
                "meta": {"total": total, "links": {"next": str(servers[begin + self.size]["id"]) if more else ""}}
            },
        }[self.provider.name]
        headers = {"date": formatdate(NOW + self.requests, usegmt=True)}
        return {"servers": part, **body}, Answer(200, "OK", headers, b"")

    def reading(self, chains: str = "", order: random.Random | None = None) -> tuple[list[Any], str]:
        def one_by_one(calls: Any) -> list[Any]:
            """Side by side means in any order."""
            numbers = list(range(len(calls)))
            if order:
                order.shuffle(numbers)
            done = {number: calls[number]() for number in numbers}
            return [done[number] for number in range(len(calls))]

        return Reading(self.provider, self.ask, "servers", lambda entry: entry["id"], one_by_one, chains).all()


def formatted(moment: float) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(moment, timezone.utc).isoformat()


CHANGES = st.dictionaries(
    st.integers(0, 12),
    st.lists(st.tuples(st.sampled_from(["add", "delete"]), st.sampled_from([0, -1, 5, 17])), max_size=3),
    max_size=5,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(PROVIDERS)), st.integers(0, 40), st.integers(1, 9), CHANGES, st.booleans(), st.randoms())
def test_nobody_who_was_there_all_the_time_is_missing(provider, count, size, changes, chains, order):
    shifting = Shifting(provider, count, size, changes)
    try:
        entries, doubt = shifting.reading("region" if chains and provider == "vultr" else "", order)
    except ChangedError:
        return
    ids = [entry["id"] for entry in entries]
    assert len(ids) == len(set(ids))
    assert set(ids) <= shifting.ever
    if not doubt:
        assert shifting.always <= set(ids)


@pytest.mark.parametrize("provider", ["digitalocean", "hetzner", "linode"])
def test_one_that_goes_and_one_that_comes_raise_a_doubt(provider):
    """Totals and ids fit, and yet the first of the second page is missing."""
    shifting = Shifting(provider, 30, 10, {1: [("delete", 0), ("add", 29)]})
    entries, doubt = shifting.reading()
    assert shifting.always - {entry["id"] for entry in entries} == {10}
    assert doubt == "an entry was created while it was read"


@pytest.mark.parametrize("provider", ["digitalocean", "hetzner", "linode"])
def test_newest_first_needs_no_doubt(provider):
    """What comes then moves nobody to a page that was read already."""
    shifting = Shifting(provider, 30, 10, {1: [("delete", 0), ("add", 0)]})
    entries, doubt = shifting.reading()
    assert (shifting.always - {entry["id"] for entry in entries}, doubt) == (set(), "")


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
@pytest.mark.parametrize(("count", "requests"), [(0, 1), (9, 1), (10, 1), (11, 2), (30, 3)])
def test_a_list_at_rest_takes_the_fewest_requests(provider, count, requests):
    shifting = Shifting(provider, count, 10, {})
    entries, doubt = shifting.reading()
    assert ([entry["id"] for entry in entries], doubt) == (list(range(count)), "")
    assert shifting.requests == requests


def test_a_long_chain_is_read_by_regions():
    shifting = Shifting("vultr", 60, 10, {})
    entries, _doubt = shifting.reading("region")
    assert {entry["id"] for entry in entries} == set(range(60))
    # One more than in a single chain, but three of them side by side.
    assert shifting.requests == 1 + 3 * 2


def test_a_region_that_the_first_page_has_not_is_not_forgotten():
    shifting = Shifting("vultr", 60, 10, {})
    for server in shifting.servers:
        server["region"] = "late" if server["id"] > 50 else "early"
    entries, _doubt = shifting.reading("region")
    assert {entry["id"] for entry in entries} == set(range(60))


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_pages_that_repeat_end(provider):
    shifting = Shifting(provider, 30, 10, {})
    first = shifting.ask({"page": 1})
    asked = []

    def again(query: Any) -> Any:
        asked.append(query)
        return first

    shifting.ask = again  # type: ignore[method-assign]
    with pytest.raises(ChangedError, match="circle"):
        shifting.reading()
    assert len(asked) == 2


def test_a_last_page_that_is_gone_is_a_change():
    shifting = Shifting("linode", 30, 10, {})
    answered = shifting.ask

    def without_the_last(query: Any) -> Any:
        if query["page"] == 3:
            raise CloudError("Not found", 404)
        return answered(query)

    shifting.ask = without_the_last  # type: ignore[method-assign]
    with pytest.raises(ChangedError, match="went away"):
        shifting.reading()


def test_times():
    assert seconds("2026-01-01T00:00:00Z") == seconds("2026-01-01T00:00:00+00:00") == seconds("2026-01-01T00:00:00")
    assert seconds("2026-01-01T02:00:00+02:00") == seconds("2026-01-01T00:00:00")
    assert seconds("soon") == seconds(None) == 0

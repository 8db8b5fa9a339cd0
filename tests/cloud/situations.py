"""What may happen while an inventory is read, for each provider, and how it must end.

Each is either the whole list, or an exit status that is not 0 and a sentence that says what to do. There is no third.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from tests.cloud.api import Limit
from tests.cloud.fleet import Machine, machine, plain

if TYPE_CHECKING:
    from tests.cloud.simulator import Simulator

Prepare = Callable[["Simulator", str], None]
FOR_EVER = 0
WHOLE, ERROR, EITHER = "whole", "error", "either"
PROVIDERS = ("hetzner", "digitalocean", "vultr", "linode")
# More than two of the largest pages of each.
MANY = {"hetzner": 120, "digitalocean": 450, "vultr": 1050, "linode": 1050}


@dataclass(frozen=True)
class Situation:
    """One of them.

    @param ends: WHOLE, ERROR or EITHER
    @param says: words of which an error must have one
    @param many: whether the list must have several pages
    @param only: the providers that it can happen at
    """

    prepare: Prepare
    ends: str = WHOLE
    says: tuple[str, ...] = ()
    many: bool = False
    only: tuple[str, ...] = PROVIDERS


def faulty(kind: str, times: int = 1, **words: Any) -> Prepare:
    """With the list of servers, not counting what else is asked."""

    def _prepare(simulator: Simulator, provider: str) -> None:
        simulator.fault(provider, kind, times=times, path=simulator.apis[provider].list_path, **words)

    return _prepare


def error_body(provider: str, status: int) -> Any:
    text = {429: "rate limit exceeded"}.get(status, "service is down")
    return {
        "hetzner": {"error": {"code": "rate_limit_exceeded" if status == 429 else "service_error", "message": text}},
        "digitalocean": {"id": "too_many_requests" if status == 429 else "server_error", "message": text},
        "vultr": {"error": text, "status": status},
        "linode": {"errors": [{"reason": text}]},
    }[provider]


def status(code: int, times: int = 1, skip: int = 0, **headers: str) -> Prepare:
    def _prepare(simulator: Simulator, provider: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        simulator.fault(
            provider, "status", status=code, times=times, skip=skip, path=simulator.apis[provider].list_path,
            body=error_body(provider, code), headers=named,
        )  # fmt: skip

    return _prepare


def own_limit(simulator: Simulator, provider: str) -> None:
    """As the documents of each have it; Hetzner's reset is the moment when all of an hour are back."""
    now = simulator.clock.now()
    headers = {
        "hetzner": {
            "RateLimit-Limit": "3600",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(int(now) + 3600),
        },
        "digitalocean": {"ratelimit-limit": "5000", "ratelimit-remaining": "0", "ratelimit-reset": str(int(now) + 2)},
        "vultr": {"Retry-After": "1"},
        "linode": {"Retry-After": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(now) + 1)},
    }
    simulator.fault(
        provider, "status", status=429, path=simulator.apis[provider].list_path, body=error_body(provider, 429),
        headers=headers[provider],
    )  # fmt: skip


def date_limit(hours: float) -> Prepare:
    """Retry-After as a date, by a clock that is wrong by some hours."""

    def _prepare(simulator: Simulator, provider: str) -> None:
        simulator.clock.skew = hours * 3600
        when = formatdate(simulator.clock.now() + 2, usegmt=True)
        # The answer has the header Date of the same clock.
        simulator.fault(
            provider, "status", status=429, path=simulator.apis[provider].list_path, body=error_body(provider, 429),
            headers={"Retry-After": when},
        )  # fmt: skip

    return _prepare


def edited(change: Callable[[Any, str], Any], times: int = FOR_EVER) -> Prepare:
    def _prepare(simulator: Simulator, provider: str) -> None:
        api = simulator.apis[provider]
        simulator.fault(provider, "edit", times=times, path=api.list_path, edit=lambda body: change(body, api.list_key))

    return _prepare


def with_key(value: Any) -> Callable[[Any, str], Any]:
    return lambda body, key: {**body, key: value}


def spoil_one(body: Any, key: str) -> Any:
    body[key][-1:] = ["what is this?"]
    return body


def without_id(body: Any, key: str) -> Any:
    for thing in body[key][:1]:
        thing.pop("id", None)
    return body


def endless(simulator: Simulator, provider: str) -> None:
    """The same page again and again, each with a next one and nothing that says how many there are."""
    path, key = simulator.apis[provider].list_path, simulator.apis[provider].list_key
    first: dict[str, Any] = {}

    def _edit(body: Any) -> Any:
        things = first.setdefault("things", body.get(key))
        if provider == "hetzner":
            page = body["meta"]["pagination"]["page"]
            pages = {**body["meta"]["pagination"], "next_page": page + 1, "last_page": None, "total_entries": None}
            return {key: things, "meta": {"pagination": pages}}
        if provider == "digitalocean":
            address = f"{simulator.url(provider)}{path}?page=2&per_page=200"
            return {key: things, "links": {"pages": {"next": address, "last": address}}, "meta": {"total": 10**6}}
        if provider == "vultr":
            return {key: things, "meta": {"total": 10**6, "links": {"next": "bmV4dF9fMQ==", "prev": ""}}}
        return {"data": things, "page": body.get("page", 1), "pages": 10**6, "results": 10**8}

    simulator.fault(provider, "edit", times=FOR_EVER, path=path, edit=_edit)


def without_totals(body: Any, key: str) -> Any:
    """Fields that may be null, or that some answers lack."""
    meta = body["meta"]
    if "pagination" in meta:
        meta["pagination"].update(last_page=None, total_entries=None)
    else:
        meta.pop("total")
    return body


def small_pages(simulator: Simulator, provider: str) -> None:
    """The provider gives fewer than it was asked for."""
    api = simulator.apis[provider]
    api.size_most, api.size_strict = 40, False


def bad_token(simulator: Simulator, provider: str) -> None:
    simulator.apis[provider].accounts.clear()


def no_scope(simulator: Simulator, provider: str) -> None:
    account = simulator.account(provider)
    account.scopes, account.addresses = ["/nothing"], provider != "vultr"


def second_forbidden(simulator: Simulator, provider: str) -> None:
    simulator.account(provider).scopes = [simulator.apis[provider].list_path]


def after_page(number: int, act: Callable[[Simulator, str], None]) -> Prepare:
    """Does something once, when the list of servers was answered so many times."""

    def _prepare(simulator: Simulator, provider: str) -> None:
        answered = itertools.count(1)

        def _watch(asked: str) -> None:
            if asked == provider and next(answered) == number:
                act(simulator, provider)

        simulator.watchers.append(_watch)

    return _prepare


def servers_of(simulator: Simulator, provider: str) -> dict[Any, Any]:
    return simulator.account(provider).stock[simulator.apis[provider].server_kinds[0]]


def delete_first(simulator: Simulator, provider: str) -> None:
    servers = servers_of(simulator, provider)
    servers.pop(next(iter(servers)))
    simulator.account(provider).version += 1


def add_one(simulator: Simulator, provider: str) -> None:
    now = datetime.fromtimestamp(simulator.clock.now(), timezone.utc)
    simulator.fill(provider, [replace(machine(50_000), made=now)])


def swap(simulator: Simulator, provider: str) -> None:
    """One goes and one comes: the total stays."""
    delete_first(simulator, provider)
    add_one(simulator, provider)


def restless(simulator: Simulator, provider: str) -> None:
    """One goes after each page, for ever."""

    def _watch(asked: str) -> None:
        if asked == provider:
            delete_first(simulator, provider)

    simulator.watchers.append(_watch)


def in_turn(simulator: Simulator, provider: str) -> None:
    path = simulator.apis[provider].list_path
    for code in (500, 429, 502):
        simulator.fault(
            provider, "status", status=code, path=path, body=error_body(provider, code), headers={"Retry-After": "1"}
        )
    simulator.fault(provider, "reset", path=path)


def tight(simulator: Simulator, provider: str) -> None:
    """Two requests in two seconds."""
    simulator.apis[provider].limits[:] = [Limit(2, 2), *simulator.apis[provider].limits[1:]]


def redirect(simulator: Simulator, provider: str) -> None:
    """To a place that must never see the token."""
    other = next(name for name in PROVIDERS if name != provider)
    simulator.fault(
        provider, "status", times=FOR_EVER, status=302, path=simulator.apis[provider].list_path, body="",
        headers={"Location": simulator.url(other) + simulator.apis[other].list_path},
    )  # fmt: skip


def unplugged(simulator: Simulator, provider: str) -> None:
    simulator.server.server_close()
    simulator.stopped.set()


def nothing(simulator: Simulator, provider: str) -> None:
    """All is well."""


def emptied(simulator: Simulator, provider: str) -> None:
    simulator.account(provider).stock.clear()
    simulator.account(provider).version += 1


DOWN = ("again", "later", "status", "500", "503")
LIMITED = ("limit", "429", "Too many", "too many")
UNREADABLE = ("JSON", "nothing", "cannot be read")
SITUATIONS: dict[str, Situation] = {
    "well": Situation(nothing, many=True),
    "empty account": Situation(emptied),
    "pages smaller than asked": Situation(small_pages),
    "totals missing": Situation(edited(without_totals), many=True, only=("hetzner", "digitalocean", "vultr")),
    "bad token": Situation(bad_token, ERROR, ("token", "key")),
    "no scope": Situation(no_scope, ERROR, ("scope", "permission", "not allowed", "allowed addresses", "may not")),
    "no scope for the second list": Situation(second_forbidden, EITHER),
    **{f"{code} once": Situation(status(code)) for code in (500, 502, 503, 504)},
    "503 on a later page": Situation(status(503, skip=1), many=True),
    "500 for ever": Situation(status(500, FOR_EVER), ERROR, DOWN),
    "429, Retry-After 1": Situation(status(429, Retry_After="1")),
    "429, Retry-After a date": Situation(date_limit(0)),
    "429, clock 5 hours ahead": Situation(date_limit(5)),
    "429, clock 5 hours behind": Situation(date_limit(-5)),
    "429, no header": Situation(status(429)),
    "429, own headers": Situation(own_limit),
    "429, Retry-After nonsense": Situation(status(429, Retry_After="soon")),
    "429 for ever": Situation(status(429, FOR_EVER, Retry_After="1"), ERROR, LIMITED),
    "429, Retry-After 3600": Situation(status(429, FOR_EVER, Retry_After="3600"), ERROR, LIMITED),
    "tight limits": Situation(tight, many=True),
    "JSON truncated once": Situation(faulty("truncated")),
    "JSON truncated always": Situation(faulty("truncated", FOR_EVER), ERROR, UNREADABLE),
    "cut half way once": Situation(faulty("cut")),
    "cut on a later page": Situation(faulty("cut", skip=1), many=True),
    "reset once": Situation(faulty("reset")),
    "connection closed once": Situation(faulty("closed")),
    "HTML once": Situation(faulty("html")),
    "HTML always": Situation(faulty("html", FOR_EVER), ERROR, UNREADABLE),
    "HTML with 503 once": Situation(faulty("html", status=503)),
    "empty body once": Situation(faulty("nothing")),
    "empty body always": Situation(faulty("nothing", FOR_EVER), ERROR, UNREADABLE),
    "bad gzip once": Situation(faulty("badzip")),
    "list is null": Situation(edited(with_key(None)), ERROR, ("list", "null", "answer")),
    "list is missing": Situation(edited(lambda body, key: {"meta": {}}), ERROR, ("list", "answer")),
    "answer is a list": Situation(edited(lambda body, key: []), ERROR, ("list", "answer", "object")),
    "an item is a text": Situation(edited(spoil_one), ERROR),
    "an item has no id": Situation(edited(without_id), ERROR),
    "next page never ends": Situation(endless, ERROR),
    "one answer takes 2 s": Situation(faulty("late", seconds=2)),
    "never answers once": Situation(faulty("never")),
    "never answers": Situation(faulty("never", FOR_EVER), ERROR, ("answer", "time", "second")),
    "a byte now and then": Situation(faulty("drops", FOR_EVER), ERROR, ("answer", "time", "second")),
    "nobody listens": Situation(unplugged, ERROR, ("connect", "reach", "refused")),
    "sent elsewhere": Situation(redirect, ERROR),
    "deleted between pages": Situation(after_page(1, delete_first), many=True),
    "deleted after the second page": Situation(after_page(2, delete_first), many=True),
    "added between pages": Situation(after_page(1, add_one), many=True),
    "one goes, one comes": Situation(after_page(1, swap), many=True),
    "never at rest": Situation(restless, EITHER, many=True),
    "500, 429, 502, reset in turn": Situation(in_turn),
}


def awkward(provider: str) -> list[Machine]:
    """Servers that are allowed and seldom."""
    number = itertools.count(90_001)

    def _one(name: str, **words: Any) -> Machine:
        return plain(next(number), name, **words)

    def _set(**fields: Any) -> Callable[[dict[str, Any]], None]:
        return lambda thing: thing.update(fields)

    common = [
        _one("six-only", public_ipv4=None),
        _one("four-only", public_ipv6=None),
        _one("private-only", public_ipv4=None, public_ipv6=None, private_ipv4="10.9.9.9"),
        _one("no-address", public_ipv4=None, public_ipv6=None, private_ipv4=None),
        _one("no-image", change=_set(image=None, image_id="")),
        _one("web.Example.ORG"),
        replace(_one("in-two-roles"), labels={"role": "web", "env": ""}),
        replace(_one("new-word"), status="hibernating"),
    ]
    braces = "{{ 7 * 191 }} {% raw %}"
    if provider == "hetzner":

        def _snapshot(server: dict[str, Any]) -> None:
            server["image"] = {**server["image"], "type": "snapshot", "name": None, "description": braces}

        return [
            *common,
            _one("own-image", change=_snapshot),
            replace(_one("odd-labels"), labels={"example.com/tier": "1", "empty": "", "UPPER": "Yes.No_1"}),
        ]
    if provider == "digitalocean":

        def _own(droplet: dict[str, Any]) -> None:
            droplet["image"] = {**droplet["image"], "slug": None, "name": braces, "public": False}

        return [
            *common,
            _one("own-image", change=_own),
            *(_one("a-twin") for _ in range(2)),
            *(_one(f"gpu-{n}", special="gpu") for n in range(3)),
            replace(_one("odd-tags"), tags=("a:b:c", "role:", "1st", "UPPER_case-1")),
        ]
    text = ("größe:münchen", "日本", braces, "a tag", "role:", ":x", "a:b:c", "role:all", "key=value")
    if provider == "vultr":
        return [
            *common,
            *(_one("a-twin") for _ in range(2)),
            *(_one("") for _ in range(2)),
            _one(braces),
            _one("käse [1:3], prod !x"),
            replace(_one("odd-tags"), tags=text),
            _one("bare-metal", special="metal"),
            _one("a-twin", special="metal"),
            _one(
                "still-pending", change=_set(status="pending", main_ip="0.0.0.0", v6_main_ip="", server_status="none")
            ),
            _one("is-suspended", change=_set(status="suspended")),
        ]
    return [
        *common,
        _one("two-addresses", change=_set(ipv4=["192.168.130.7", "198.51.100.7"])),
        replace(_one("odd-tags"), tags=text),
        _one("lke1-2-abcdef", change=_set(lke_cluster_id=1, has_user_data=True)),
    ]


def expected_ids(simulator: Simulator, provider: str) -> list[str]:
    """Of everything that an inventory must list."""
    stock = simulator.account(provider).stock
    return sorted(str(key) for kind in simulator.apis[provider].server_kinds for key in stock.get(kind, {}))

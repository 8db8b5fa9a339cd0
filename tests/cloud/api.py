"""What the simulated APIs have in common: accounts, routes, the rules of a request, paging, limits.

A rule that a request breaks is answered as the provider answers it where that is known, and always noted as a
violation: a real service is often more patient than its documents, and a plugin that needs the patience is wrong.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import unquote

Thing = dict[str, Any]


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field


class Answer(NamedTuple):
    status: int
    body: Any = None
    headers: dict[str, str] = {}


@dataclass
class Account:
    """A project or user with its token and what it owns.

    @param scopes: path beginnings that the token may use; None is all of them
    @param unseen: fields that this token does not get to see
    @param addresses: whether the address of the caller is on the allow-list of the key
    """

    name: str
    token: str
    scopes: list[str] | None = None
    may_write: bool = True
    unseen: set[str] = field(default_factory=set)
    addresses: bool = True
    stock: dict[str, dict[Any, Thing]] = field(default_factory=dict)
    # One for each change, so that a prepared answer is known to be old.
    version: int = 0

    def all(self, kind: str) -> list[Thing]:
        return list(self.stock.get(kind, {}).values())

    def find(self, kind: str, key: Any) -> Thing:
        shelf = self.stock.get(kind, {})
        key = int(key) if str(key).isdigit() and key not in shelf else key
        if key not in shelf:
            raise Refused(404, "not_found", f"{kind} with ID {key} not found")
        return shelf[key]

    def put(self, kind: str, thing: Thing, key: Any = None) -> Thing:
        self.stock.setdefault(kind, {})[thing["id"] if key is None else key] = thing
        self.version += 1
        return thing

    def drop(self, kind: str, key: Any) -> None:
        self.find(kind, key)
        shelf = self.stock[kind]
        shelf.pop(key if key in shelf else int(key))
        self.version += 1


@dataclass
class Call:
    """A request as the handlers see it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    account: Account
    base: str
    problems: list[str]

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]


# -- the rules of a request -------------------------------------------------------------------------------------------
#
# A shape is a type, a tuple of shapes (one must fit), a set of allowed values, a list with the shape of each item, a
# pattern, or a dictionary of fields, where "name!" must be there and "*" stands for any other name.

Shape = Any


def faults_of(value: Any, shape: Shape, where: str = "body") -> Iterator[str]:
    """Sentences that say in which way a value does not fit."""
    if isinstance(shape, tuple):
        tries = [list(faults_of(value, one, where)) for one in shape]
        if all(tries):
            yield tries[-1][0]
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f"{where} must be an object"
            return
        fields = {name.rstrip("!"): one for name, one in shape.items()}
        yield from (f"{where}.{n[:-1]} is missing" for n in shape if n.endswith("!") and value.get(n[:-1]) is None)
        for name, one in value.items():
            if name in fields or "*" in fields:
                yield from faults_of(one, fields.get(name, fields.get("*")), f"{where}.{name}")
            else:
                yield f"{where}.{name} is not known"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where} must be a list"
        else:
            for number, one in enumerate(value):
                yield from faults_of(one, shape[0], f"{where}[{number}]")
    elif isinstance(shape, (set, frozenset)):
        if value not in shape:
            yield f"{where} is {value!r}, which is none of {sorted(map(str, shape))}"
    elif isinstance(shape, re.Pattern):
        if not isinstance(value, str) or not shape.fullmatch(value):
            yield f"{where} is {value!r}, which has the wrong form"
    elif shape is None:
        if value is not None:
            yield f"{where} must be null"
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        yield f"{where} must be {shape.__name__}, not {type(value).__name__}"


class Whole(NamedTuple):
    """A whole number in a query, in bounds."""

    least: int = 1
    most: int | None = None


def query_faults(query: dict[str, list[str]], rules: dict[str, Any]) -> Iterator[str]:
    """A rule is a Whole, a set of words, or str; in a list the name may be given more than once."""
    for name, values in query.items():
        if name not in rules:
            yield f"query parameter {name} is not known"
            continue
        rule = rules[name]
        if isinstance(rule, list):
            rule = rule[0]
        elif len(values) > 1:
            yield f"query parameter {name} is given {len(values)} times"
        for value in values:
            if isinstance(rule, Whole):
                if not value.isdigit() or int(value) < rule.least or (rule.most and int(value) > rule.most):
                    yield f"query parameter {name}={value} is not from {rule.least} to {rule.most or 'any'}"
            elif isinstance(rule, set) and value not in rule:
                yield f"query parameter {name}={value} is none of {sorted(rule)}"


# -- routes -----------------------------------------------------------------------------------------------------------


class Route(NamedTuple):
    method: str
    pattern: re.Pattern[str]
    path: str
    query: dict[str, Any]
    body: Shape
    handler: Callable[..., Any]


def on(method: str, path: str, query: dict[str, Any] | None = None, body: Shape = None, paged: bool = False) -> Any:
    """Makes a method of an API the handler of an address; names in braces are its arguments."""

    def _mark(function: Any) -> Any:
        # Each mark of a stack has its own list, so that a class that inherits shares none.
        function.marks = [*getattr(function, "marks", []), (method, path, query or {}, body, paged)]
        return function

    return _mark


@dataclass(frozen=True)
class Kind:
    """A sort of things with the usual addresses: list and create, get, change and delete."""

    name: str
    path: str
    one: str = ""
    create: Shape = None
    change: Shape = None
    change_by: str = "PUT"
    query: dict[str, Any] = field(default_factory=dict)
    # Fields that a query parameter of the same name compares.
    exact: tuple[str, ...] = ()
    unique: str = ""
    deletable: bool = True
    created: int = 201


class Limit:
    """So many requests in a window, each on its own timer."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self.times: deque[float] = deque()

    def take(self, now: float) -> bool:
        while self.times and self.times[0] <= now - self.seconds:
            self.times.popleft()
        if len(self.times) >= self.most:
            return False
        self.times.append(now)
        return True

    @property
    def left(self) -> int:
        return self.most - len(self.times)

    def free_at(self, now: float) -> float:
        """When the oldest request no longer counts."""
        return self.times[0] + self.seconds if self.times else now


class Api:
    """One provider. Subclasses say how it speaks: `paging`, `error`, `limit_headers`, `kinds`, and what is special."""

    name = ""
    prefix = ""
    # The list of servers, the key that it has, one more list that an inventory asks for, and what counts as a server.
    list_path = list_key = second_path = ""
    server_kinds: tuple[str, ...] = ()
    # Query parameters of every list, the one with the page size, its value without one, its bounds.
    paging: dict[str, Any] = {}
    size_word, size_default, size_least, size_most = "per_page", 25, 1, 50
    # Whether a bad page size is an error, or as good as the next good one.
    size_strict = False
    kinds: tuple[Kind, ...] = ()
    routes: list[Route] = []

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.numbers = itertools.count(1000)
        # What time brings: (moment, what to do).
        self.later: list[tuple[float, Callable[[], None]]] = []
        # Seconds until a new server runs; tests that watch it grow want more.
        self.boot_seconds = 0.0
        # What new servers get; when it is empty, addresses that nobody has.
        self.free_addresses: list[str] = []
        self.limits = self.fresh_limits()
        # The plainest first, so that /vpcs/ips is not the network with the id ips.
        self.routes = sorted([*self.special_routes(), *self.kind_routes()], key=lambda route: route.path.count("{"))
        self.catalog = self.make_catalog()

    # -- what a provider says -----------------------------------------------------------------------------------------

    def fresh_limits(self) -> list[Limit]:
        raise NotImplementedError

    def limit_headers(self) -> dict[str, str]:
        """On every answer."""
        return {}

    def over_limit(self, limit: Limit) -> Answer:
        raise NotImplementedError

    def error(self, status: int, code: str, message: str, field: str | None = None) -> Answer:
        raise NotImplementedError

    def bad_token(self) -> Answer:
        raise NotImplementedError

    def no_scope(self) -> Answer:
        raise NotImplementedError

    def make_token(self, account: str) -> str:
        raise NotImplementedError

    def make_catalog(self) -> dict[str, list[Thing]]:
        """What belongs to the provider: regions, plans, images."""
        return {}

    def list_answer(self, call: Call, key: str, things: list[Thing]) -> Answer:
        """One page of a list."""
        raise NotImplementedError

    def one_answer(self, key: str, thing: Thing, status: int = 200) -> Answer:
        return Answer(status, {key: thing})

    def new_id(self, kind: str) -> Any:
        return next(self.numbers)

    # -- routes -------------------------------------------------------------------------------------------------------

    def special_routes(self) -> Iterator[Route]:
        for word in dir(type(self)):
            function = getattr(type(self), word)
            for method, path, query, body, paged in getattr(function, "marks", []):
                yield self.route(method, path, {**query, **(self.paging if paged else {})}, body, getattr(self, word))

    @staticmethod
    def route(method: str, path: str, query: dict[str, Any], body: Shape, handler: Any) -> Route:
        return Route(method, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), path, query, body, handler)

    def kind_routes(self) -> Iterator[Route]:
        for kind in self.kinds:
            own = {**kind.query, **dict.fromkeys(kind.exact, str)}
            yield self.route("GET", kind.path, {**own, **self.paging}, None, self.lister(kind))
            yield self.route("GET", kind.path + "/{key}", {}, None, self.getter(kind))
            if kind.create is not None:
                yield self.route("POST", kind.path, {}, kind.create, self.creator(kind))
            if kind.change is not None:
                yield self.route(kind.change_by, kind.path + "/{key}", {}, kind.change, self.changer(kind))
            if kind.deletable:
                yield self.route("DELETE", kind.path + "/{key}", {}, None, self.deleter(kind))

    def lister(self, kind: Kind) -> Any:
        def _list(call: Call) -> Answer:
            things = call.account.all(kind.name) if kind.name not in self.catalog else self.catalog[kind.name]
            for word in kind.exact:
                if word in call.query:
                    things = [thing for thing in things if str(thing.get(word)) == call.one(word)]
            return self.list_answer(call, kind.name, self.filtered(call, kind, things))

        return _list

    def filtered(self, call: Call, kind: Kind, things: list[Thing]) -> list[Thing]:
        """What the query leaves of a list, beyond exact matches."""
        return things

    def getter(self, kind: Kind) -> Any:
        def _get(call: Call, key: str) -> Answer:
            return self.one_answer(kind.one, self.find(call.account, kind.name, key))

        return _get

    def find(self, account: Account, kind: str, key: Any) -> Thing:
        for thing in self.catalog.get(kind, []):
            if str(thing["id"]) == str(key):
                return thing
        return account.find(kind, key)

    def creator(self, kind: Kind) -> Any:
        def _create(call: Call) -> Answer:
            taken = kind.unique and [one for one in call.account.all(kind.name) if self.same(kind, one, call.body)]
            if taken:
                raise self.not_unique(kind)
            make = getattr(self, f"make_{kind.name}", self.plain)
            thing = make(call, kind, {"id": self.new_id(kind.name)})
            call.account.put(kind.name, thing)
            return self.was_created(call, kind, thing)

        return _create

    def was_created(self, call: Call, kind: Kind, thing: Thing) -> Answer:
        return self.one_answer(kind.one, thing, kind.created)

    def same(self, kind: Kind, thing: Thing, body: Thing) -> bool:
        return thing.get(kind.unique) == body.get(kind.unique)

    def not_unique(self, kind: Kind) -> Refused:
        return Refused(409, "uniqueness_error", f"{kind.unique} is already used", kind.unique)

    def plain(self, call: Call, kind: Kind, thing: Thing) -> Thing:
        return {**thing, **call.body}

    def changer(self, kind: Kind) -> Any:
        def _change(call: Call, key: str) -> Answer:
            thing = call.account.find(kind.name, key)
            thing.update(call.body)
            call.account.version += 1
            return self.changed(kind, thing)

        return _change

    def changed(self, kind: Kind, thing: Thing) -> Answer:
        return self.one_answer(kind.one, thing)

    def deleter(self, kind: Kind) -> Any:
        def _delete(call: Call, key: str) -> Answer:
            thing = call.account.find(kind.name, key)
            getattr(self, f"drop_{kind.name}", lambda *words: None)(call.account, thing)
            call.account.drop(kind.name, key)
            return self.deleted()

        return _delete

    def deleted(self) -> Answer:
        return Answer(204)

    # -- one request --------------------------------------------------------------------------------------------------

    def add_account(self, name: str, **words: Any) -> Account:
        account = Account(name, self.make_token(name), **words)
        self.accounts[account.token] = account
        return account

    def who(self, headers: dict[str, str], problems: list[str]) -> Account | None:
        words = headers.get("authorization", "").split(" ")
        if len(words) != 2 or words[0] != "Bearer":
            problems.append("the header Authorization is not 'Bearer <token>'")
            return None
        return self.accounts.get(words[1])

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], headers: dict[str, str], raw: bytes, base: str
    ) -> tuple[Answer, list[str], Account | None]:
        """The answer and the rules that the request broke."""
        problems: list[str] = []
        with self.lock:
            self.pass_time()
            now = self.clock.now()
            for limit in self.limits:
                if not limit.take(now):
                    return self.over_limit(limit), problems, None
            account = self.who(headers, problems)
            if account is None:
                return self.bad_token(), problems, None
            try:
                return self.routed(method, path, query, headers, raw, base, account, problems), problems, account
            except Refused as refused:
                error = self.error(refused.status, refused.code, refused.message, refused.field)
                return error, problems, account

    def routed(
        self,
        method: str,
        path: str,
        query: dict[str, list[str]],
        headers: dict[str, str],
        raw: bytes,
        base: str,
        account: Account,
        problems: list[str],
    ) -> Answer:
        if not account.addresses or (
            account.scopes is not None and not any(path.startswith(s) for s in account.scopes)
        ):
            return self.no_scope()
        if method != "GET" and not account.may_write:
            return self.read_only()
        for route in self.routes:
            match = route.pattern.fullmatch(path)
            if match and route.method == method:
                break
        else:
            problems.append(f"{method} {path} is no address of this API")
            raise Refused(404, "not_found", "the address is not known")
        problems += query_faults(query, route.query)
        body = self.read_body(route, headers, raw, problems)
        call = Call(method, path, query, headers, body, account, base, problems)
        answer: Answer = route.handler(call, **{name: unquote(value) for name, value in match.groupdict().items()})
        return answer

    def read_only(self) -> Answer:
        return self.no_scope()

    def read_body(self, route: Route, headers: dict[str, str], raw: bytes, problems: list[str]) -> Any:
        if route.body is None:
            if raw:
                problems.append(f"{route.method} {route.path} takes no body")
            return None
        if raw and headers.get("content-type", "").split(";")[0] != "application/json":
            problems.append("the header Content-Type is not application/json")
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            problems.append("the body is not JSON")
            raise Refused(400, "json_error", "the body is not JSON") from None
        wrong = list(faults_of(body, route.body))
        if wrong:
            problems += wrong
            raise Refused(422 if self.name in ("hetzner", "digitalocean") else 400, "invalid_input", wrong[0])
        return body

    # -- pages --------------------------------------------------------------------------------------------------------

    def page_size(self, call: Call) -> int:
        text = call.one(self.size_word, str(self.size_default))
        size = int(text) if text.isdigit() else self.size_default
        fits = min(max(size, self.size_least), self.size_most)
        if self.size_strict and fits != size:
            raise Refused(400, "", f"Must be {self.size_least}-{self.size_most}", self.size_word)
        return fits

    def numbered(self, call: Call, things: list[Thing]) -> tuple[list[Thing], int, int, int]:
        """The page, its number, the number of pages and the page size."""
        size = self.page_size(call)
        text = call.one("page", "1")
        page = int(text) if text.isdigit() and int(text) else 1
        pages = max(-(-len(things) // size), 1)
        return things[(page - 1) * size : page * size], page, pages, size

    def new_address(self) -> tuple[str, str]:
        """Public addresses, IPv4 and IPv6."""
        number = next(self.numbers)
        four = self.free_addresses.pop(0) if self.free_addresses else f"203.0.{number // 250 % 256}.{number % 250 + 1}"
        return four, f"2001:db8:f:{number:x}::1"

    # -- time ---------------------------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        now = self.clock.now()
        due = [entry for entry in self.later if entry[0] <= now]
        self.later = [entry for entry in self.later if entry[0] > now]
        for _, act in due:
            act()

    def in_time(self, account: Account, act: Callable[[], None]) -> None:
        """After the boot time: at once when there is none, with the next request otherwise."""

        def _act() -> None:
            act()
            account.version += 1

        self.later.append((self.clock.now() + self.boot_seconds, _act))


class Clock:
    """Time as the providers see it; it can be wrong."""

    def __init__(self) -> None:
        self.skew = 0.0

    def now(self) -> float:
        return time.time() + self.skew

    def stamp(self, zone: str = "+00:00") -> str:
        return datetime.fromtimestamp(self.now(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + zone


def without(things: Iterable[Thing], names: set[str]) -> list[Thing]:
    return [{name: value for name, value in thing.items() if name not in names} for thing in things]


def copied(thing: Thing) -> Thing:
    return copy.deepcopy(thing)

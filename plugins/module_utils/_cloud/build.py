# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings accounts to what is declared: look, plan, act, and again until a look finds nothing left to do.

Nothing is remembered between runs: what is there is all that counts, so a run that was killed anywhere is finished by
the next. A request whose answer was lost is never sent again blindly. The next look shows whether it was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from .http import Account, CloudError
from .plan import KINDS, Action, Plan, Resource, make_plan

# Servers, then what needs their addresses, then a look that finds nothing; and a few more where answers were lost.
ROUNDS = 8
# How long a list may lag behind a request whose answer was lost.
LAG_SECONDS = 3.0
# How long a provider may be busy with the step before.
BUSY_SECONDS = 180.0
POLL_SECONDS = (1, 1, 2, 2, 3, 5)
Known = Mapping[tuple[str, str], Resource]


class LateError(CloudError):
    """The time for the whole is up."""


def uncertain(error: CloudError) -> bool:
    """Whether the request may have been done although it failed: its answer was lost, or the server broke at it."""
    return not isinstance(error, LateError) and (error.status == 0 or error.status >= 500 or 200 <= error.status < 300)


class Snapshot(NamedTuple):
    id: str
    name: str


class Cloud:
    """One account. A provider's class translates; it decides nothing."""

    provider = ""
    currency = "USD"
    # Kinds and attributes that this provider does not change in place.
    fixed: frozenset[tuple[str, str]] = frozenset()

    def __init__(self, api: Account, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.missing_zones: list[str] = []
        # What was begun and is not finished: each says whether it is, or raises why it will not be.
        self.waiting: list[Callable[[], bool]] = []

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """For methods that C(Account) has no name for, and for a POST without a body."""
        return self.api.within_time(lambda: self.api.call(method, path, body=body)[0])

    def look(self, domains: Collection[str]) -> list[Resource]:
        """All resources of the account; DNS records of these domains only."""
        raise NotImplementedError

    def servers(self) -> list[Resource]:
        """The servers with C(facts): C(status) and C(addresses), which are there once it has them."""
        raise NotImplementedError

    def price(self, resource: Resource) -> Decimal | None:
        """What a resource costs a month without VAT, nothing where the price list does not tell."""
        raise NotImplementedError

    def offered(self, server: Resource) -> str:
        """Why this plan cannot be had in this region, empty if it can."""
        raise NotImplementedError

    def create(self, wanted: Resource, known: Known) -> Resource:
        """Begins to create something and gives it back with its id."""
        raise NotImplementedError

    def change(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        raise NotImplementedError

    def destroy(self, existing: Resource) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Waits for what was begun, beyond what C(servers) shows."""

        def _done() -> bool:
            while self.waiting and self.waiting[0]():
                self.waiting.pop(0)
            return not self.waiting

        self.clock.wait_for(f"A change at {self.provider}", _done)

    def wait_until_off(self, path: str, key: str) -> None:
        """Until a server that was told to shut down has done so."""
        self.clock.wait_for(f"Shutting down {path}", lambda: bool(self.api.get(path)[key]["status"] == "off"))

    def busy(self, error: CloudError) -> bool:
        """Whether the provider refuses only because it is still at the step before."""
        return False

    def snapshots(self) -> list[Snapshot]:
        """All snapshots of servers; those of ours have names that say so."""
        raise NotImplementedError

    def take_snapshot(self, server: Resource, name: str) -> None:
        raise NotImplementedError

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        raise NotImplementedError


@dataclass
class Clock:
    """Time, which tests make pass faster.

    @param limit_seconds: how long the whole may take
    """

    limit_seconds: float = 1800
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.now()

    def wait_for(self, what: str, done: Callable[[], bool]) -> None:
        """Asks until it is done.

        @raises CloudError: when the time is up
        """
        tries = 0
        while not done():
            if self.now() - self.begun > self.limit_seconds:
                raise LateError(
                    f"{what} is not done after {self.limit_seconds:.0f} s. What was begun goes on at the provider; run "
                    "it again, and it goes on from there."
                )
            self.sleep(POLL_SECONDS[min(tries, len(POLL_SECONDS) - 1)])
            tries += 1


@dataclass
class Builder:
    """@param done: the steps that were taken, for the report"""

    clouds: Mapping[str, Cloud]
    wanted: Sequence[Resource]
    destroy: Collection[str]
    restart: Collection[str]
    clock: Clock
    done: list[Action] = field(default_factory=list)

    def plan(self) -> tuple[Plan, list[Resource]]:
        existing = []
        problems = []
        for name, cloud in self.clouds.items():
            domains = sorted({r.facts["domain"] for r in self.wanted if r.kind == "record" and r.provider == name})
            existing += cloud.look(domains)
            problems += [
                f"{name} has no zone for {domain}; add the zone there and its name servers at your registrar, or drop "
                "dns."
                for domain in cloud.missing_zones
            ]
        fixed = {(name, *pair) for name, cloud in self.clouds.items() for pair in cloud.fixed}
        plan = make_plan(self.wanted, existing, destroy=self.destroy, restart=self.restart, fixed=fixed)
        for action in plan.todo:
            one = action.wanted
            if one and one.kind == "server" and (action.verb == "create" or "plan" in action.differences):
                problems += filter(None, [self.clouds[one.provider].offered(one)])
        return Plan(plan.actions, (*plan.problems, *problems)), existing

    def build(self) -> list[Resource]:
        """Acts until nothing is left to do.

        @returns: everything that is there then
        @raises CloudError: when a provider refuses, or says that it did something and a look finds it undone
        """
        trouble: CloudError | None = None
        for _round in range(ROUNDS):
            plan, existing = self.ready_plan()
            if plan.problems:
                raise CloudError(" ".join(plan.problems))
            if not plan.todo:
                return existing
            trouble = self.act(plan, existing)
            self.wait_for_servers()
            if trouble:
                self.clock.sleep(LAG_SECONDS)
        left = ", ".join(f"{action.verb} {action.resource.word}" for action in plan.todo)
        raise CloudError(f"Not done after {ROUNDS} rounds: {left}. {trouble or 'The provider accepted it each time.'}")

    def ready_plan(self) -> tuple[Plan, list[Resource]]:
        """A plan of which something can be done; a load balancer may need minutes for its address."""
        found: list[tuple[Plan, list[Resource]]] = []

        def _ready() -> bool:
            found[:] = [self.plan()]
            todo = found[0][0].todo
            return not todo or not all(action.waits_for for action in todo)

        self.clock.wait_for("Getting addresses", _ready)
        return found[0]

    def act(self, plan: Plan, existing: Sequence[Resource]) -> CloudError | None:
        """Takes the steps that can be taken now; stops at a lost answer and gives it back."""
        known = {name: {(r.kind, r.name): r for r in existing if r.provider == name} for name in self.clouds}
        # One kind after the other, and what is destroyed at the end: the order of the plan.
        for destroying in (False, True):
            for kind in reversed(KINDS) if destroying else KINDS:
                actions = [
                    action
                    for action in plan.todo
                    if action.resource.kind == kind
                    and (action.verb == "destroy") == destroying
                    and not action.waits_for
                ]
                for action in actions:
                    try:
                        self.take(action, known[action.resource.provider])
                    except CloudError as error:
                        if not uncertain(error):
                            raise
                        return error
                    self.done.append(action)
                for name in {action.resource.provider for action in actions}:
                    self.clouds[name].settle()
                if kind == "server" and actions and not destroying:
                    self.wait_for_servers()
        return None

    def take(self, action: Action, known: dict[tuple[str, str], Resource]) -> None:
        """One step, again while the provider is still busy with the one before."""
        cloud = self.clouds[action.resource.provider]
        words = f"{action.verb} {action.resource.word}"
        begun = self.clock.now()

        def _taken() -> bool:
            try:
                if action.verb == "create" and action.wanted:
                    known[action.wanted.kind, action.wanted.name] = cloud.create(action.wanted, known)
                elif action.verb == "destroy" and action.existing:
                    cloud.destroy(action.existing)
                elif action.wanted and action.existing:
                    cloud.change(action.wanted, action.existing, action.differences, known)
            except CloudError as error:
                if cloud.busy(error) and self.clock.now() - begun < BUSY_SECONDS:
                    return False
                if uncertain(error):
                    raise
                hint = " The token needs permission to write." if error.status in (401, 403) else ""
                raise CloudError(f"{words}: {error}{hint} {self.progress()}", error.status, error.code) from error
            return True

        self.clock.wait_for(words, _taken)

    def progress(self) -> str:
        taken = ", ".join(f"{action.verb} {action.resource.word}" for action in self.done)
        return f"Done before that: {taken or 'nothing'}. Run it again, and it goes on from there."

    def wait_for_servers(self) -> None:
        """Until all declared servers have left the state in which they are made."""
        for name, cloud in self.clouds.items():
            mine = {one.name for one in self.wanted if one.kind == "server" and one.provider == name}

            def _ready(cloud: Cloud = cloud, mine: set[str] = mine) -> bool:
                return not [one for one in cloud.servers() if one.name in mine and one.facts["status"] == "pending"]

            if mine:
                self.clock.wait_for(f"Starting the servers at {name}", _ready)


def known_id(known: Known, kind: str, name: str) -> str:
    """The id of something that was found or created before."""
    if (kind, name) not in known:
        raise CloudError(f"There is no {kind} {name}.", 404)
    return known[kind, name].id


def summary(resources: Collection[Resource], names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Server name to what one wants to know of it."""
    volumes: dict[str, list[dict[str, Any]]] = {}
    for one in resources:
        if one.kind == "volume":
            found = {"name": one.name, "device": one.facts.get("device")}
            volumes.setdefault(one.spec.get("server") or "", []).append(found)
    return {
        one.name: {
            "provider": one.provider,
            "id": one.id,
            "status": one.facts["status"],
            "public_ipv4": one.facts["addresses"].get("A"),
            "public_ipv6": one.facts["addresses"].get("AAAA"),
            "volumes": volumes.get(one.name, []),
        }
        for one in resources
        if one.kind == "server" and one.name in names
    }

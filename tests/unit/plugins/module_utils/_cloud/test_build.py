"""The rounds: killed anywhere and with any answer lost, the next run ends where an undisturbed one would."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from plugins.module_utils._cloud.build import Builder, Clock, Cloud, Known, summary
from plugins.module_utils._cloud.http import CloudError
from plugins.module_utils._cloud.plan import Resource
from plugins.module_utils._cloud.wish import Declared, desired

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"


class KilledError(Exception):
    """The run ended here."""


class Memory(Cloud):
    """An account in memory. Servers get their address when somebody has looked twice."""

    provider = "hetzner"

    def __init__(self, fault: Callable[[int, str], None] = lambda step, when: None) -> None:
        super().__init__(None, clock())  # type: ignore[arg-type]
        self.things: dict[tuple[str, str, str], Resource] = {}
        self.looks: dict[str, int] = {}
        self.steps = 0
        self.fault = fault

    def put(self, one: Resource) -> Resource:
        number = one.id or str(len(self.looks) + 100 + self.steps)
        facts = dict(one.facts)
        if one.kind == "server":
            self.looks.setdefault(number, 0)
            facts |= {"status": "pending", "addresses": {}}
        made = replace(one, id=number, ours=True, facts=facts)
        self.things[one.kind, one.name, number] = made
        return made

    def look(self, domains: Collection[str]) -> list[Resource]:
        return [*self.servers(), *(one for one in self.things.values() if one.kind != "server")]

    def servers(self) -> list[Resource]:
        done = []
        for one in self.things.values():
            if one.kind == "server":
                self.looks[one.id] += 1
                up = self.looks[one.id] > 2
                addresses = {"A": f"192.0.2.{one.id}", "AAAA": None} if up else {}
                facts = {"status": "running" if up else "pending", "addresses": addresses}
                done.append(replace(one, facts=facts))
        return done

    def price(self, resource: Resource) -> Decimal | None:
        return Decimal(1)

    def offered(self, server: Resource) -> str:
        return "" if server.spec["plan"] != "none" else f"{server.name}: no such plan."

    def step(self, work: Callable[[], Any]) -> Any:
        self.steps += 1
        self.fault(self.steps, "before")
        done = work()
        self.fault(self.steps, "after")
        return done

    def create(self, wanted: Resource, known: Known) -> Resource:
        if wanted.kind == "server":
            assert ("firewall", wanted.spec["firewall"]) in known
            assert all(("network", name) in known for name in wanted.spec["networks"])
        if wanted.kind == "volume":
            assert ("server", wanted.spec["server"]) in known
        if wanted.kind == "record":
            assert all("address of" not in value for value in wanted.spec["values"])
        return self.step(lambda: self.put(wanted))

    def change(self, wanted: Resource, existing: Resource, differences: Sequence[str], known: Known) -> None:
        spec = {**existing.spec, **{name: wanted.spec[name] for name in differences}}
        self.step(
            lambda: self.things.update({(existing.kind, existing.name, existing.id): replace(existing, spec=spec)})
        )

    def destroy(self, existing: Resource) -> None:
        self.step(lambda: self.things.pop((existing.kind, existing.name, existing.id)))

    def state(self) -> list[tuple[str, str, str]]:
        return sorted((one.kind, one.name, str(one.spec).replace(one.id, "#")) for one in self.things.values())


def wish(count: int = 2) -> list[Resource]:
    base = {"provider": "hetzner", "region": "fsn1", "plan": "cpx22", "image": "debian-12", "roles": ["web"]}
    servers = [{**base, "name": f"web{n}", "networks": ["shop"], "dns": [f"w{n}.example.com"]} for n in range(count)]
    servers[0]["volumes"] = [{"name": "media", "size_gb": 10}]
    networks = [{"name": "shop", "range": "10.20.0.0/16"}]
    users = [{"name": "deploy", "keys": [KEY]}]
    return desired(Declared(servers=servers, networks=networks, load_balancers=[], admin_users=users))


def clock(limit: float = 1000) -> Clock:
    now = [0.0]

    def _sleep(seconds: float) -> None:
        now[0] += seconds

    return Clock(limit, _sleep, lambda: now[0])


def builder(cloud: Cloud, wanted: list[Resource], destroy: Collection[str] = (), limit: float = 1000) -> Builder:
    return Builder({"hetzner": cloud}, wanted, destroy, (), clock(limit))


def test_everything_is_made_and_the_second_run_does_nothing():
    cloud = Memory()
    first = builder(cloud, wish())
    there = first.build()
    kinds = [action.resource.kind for action in first.done]
    assert kinds == ["key", "network", "firewall", "server", "server", "volume", "record", "record"]
    assert summary(there, ["web0"])["web0"]["public_ipv4"].startswith("192.0.2.")
    again = builder(cloud, wish())
    again.build()
    assert again.done == []


STEPS = 8


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_run_that_is_killed_is_finished_by_the_next(step: int, when: str):
    def _kill(now: int, moment: str) -> None:
        if (now, moment) == (step, when):
            raise KilledError

    whole, cloud = Memory(), Memory(_kill)
    builder(whole, wish()).build()
    with pytest.raises(KilledError):
        builder(cloud, wish()).build()
    builder(cloud, wish()).build()
    assert [one[:2] for one in cloud.state()] == [one[:2] for one in whole.state()]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_lost_answer_makes_nothing_twice(step: int, when: str):
    def _cut(now: int, moment: str) -> None:
        if (now, moment) == (step, when):
            raise CloudError("the connection was cut")

    whole, cloud = Memory(), Memory(_cut)
    builder(whole, wish()).build()
    builder(cloud, wish()).build()
    assert [one[:2] for one in cloud.state()] == [one[:2] for one in whole.state()]


def test_a_refusal_says_what_was_done_before():
    def _refuse(now: int, moment: str) -> None:
        if now == 4:
            raise CloudError("Hetzner Cloud: POST /servers failed (422 limit reached).", 422)

    with pytest.raises(CloudError, match=r"create web0: .*limit reached.*create firewall/bulwark-web.*goes on from"):
        builder(Memory(_refuse), wish()).build()


def test_busy_is_waited_for_and_not_for_ever():
    class Busy(Memory):
        def busy(self, error: CloudError) -> bool:
            return error.code == "locked"

    def _busy(until: int) -> Callable[[int, str], None]:
        def _fault(now: int, moment: str) -> None:
            if moment == "before" and 3 < now < until:
                raise CloudError("locked", 423, "locked")

        return _fault

    builder(Busy(_busy(7)), wish()).build()
    with pytest.raises(CloudError, match="locked"):
        builder(Busy(_busy(10_000)), wish()).build()


def test_what_is_accepted_and_never_done_is_an_error():
    class Liar(Memory):
        def create(self, wanted: Resource, known: Known) -> Resource:
            return replace(super().create(wanted, known)) if wanted.kind != "volume" else wanted

    with pytest.raises(CloudError, match="create volume/media"):
        builder(Liar(), wish()).build()


def test_a_server_that_never_starts_is_an_error():
    class Slow(Memory):
        def servers(self) -> list[Resource]:
            return [replace(one, facts={"status": "pending", "addresses": {}}) for one in super().servers()]

    with pytest.raises(CloudError, match="Starting the servers at hetzner is not done after 100 s"):
        builder(Slow(), wish(), limit=100).build()


def test_nothing_is_done_when_the_plan_has_problems():
    cloud = Memory()
    wanted = [replace(one, spec={**one.spec, "plan": "none"}) if one.kind == "server" else one for one in wish()]
    with pytest.raises(CloudError, match=r"web0: no such plan\. web1: no such plan\."):
        builder(cloud, wanted).build()
    assert cloud.steps == 0


def test_only_the_named_server_goes():
    cloud = Memory()
    builder(cloud, wish(3)).build()
    builder(cloud, wish(2), destroy=["web2"]).build()
    names = {name for kind, name, _number in cloud.things if kind == "server"}
    assert names == {"web0", "web1"}
    assert [one for one in cloud.things if one[0] == "volume"]

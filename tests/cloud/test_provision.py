"""The module cloud_servers against the four APIs: plan, build, again, killed anywhere, changed, destroyed, the cost.

Quick form: one provider for most tests, and a sample of the requests at which a run is killed or loses an answer.
"""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.module_utils._cloud import build
from plugins.module_utils._cloud.http import Account
from plugins.module_utils._cloud_module import CLOUDS
from plugins.modules import cloud_servers, cloud_snapshots
from tests.cloud.api import Limit
from tests.cloud.conftest import FULL, SEED
from tests.cloud.simulator import Simulator

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake me@here"
SSH = {"port": "22", "proto": "tcp", "from": ["any"], "name": "ssh"}
HTTPS = {"port": "443", "proto": "tcp", "from": ["any"], "name": "nginx"}
METRICS = {"port": "9100", "proto": "tcp", "from": ["198.51.100.7", "2001:db8:1::/48"], "name": "node_exporter"}


class Place(NamedTuple):
    region: str
    plan: str
    larger: str
    balancer: str = ""


PLACES = {
    "hetzner": Place("fsn1", "cpx22", "cpx32", "lb11"),
    "digitalocean": Place("fra1", "s-1vcpu-1gb", "s-2vcpu-4gb"),
    "vultr": Place("fra", "vc2-1c-1gb", "vc2-2c-4gb"),
    "linode": Place("de-fra-2", "g6-nanode-1", "g6-standard-1"),
}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "POLL_SECONDS", (0.02,))
    monkeypatch.setattr(build, "LAG_SECONDS", 0.0)


class Cloud:
    """One provider, and the module to work on it."""

    def __init__(self, simulator: Simulator, provider: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.simulator, self.provider, self.capsys = simulator, provider, capsys
        self.place = PLACES[provider]

    def server(self, name: str, **more: Any) -> dict[str, Any]:
        place = {"provider": self.provider, "region": self.place.region, "plan": self.place.plan}
        return {"name": name, **place, "roles": ["web"], "firewall_rules": [SSH, HTTPS], **more}

    def site(self) -> dict[str, Any]:
        """Everything that can be declared."""
        return {
            "servers": [
                self.server(
                    "web1", networks=["shop"], dns=["w1.example.com", "www.example.com"], labels={"env": "prod"}
                ),
                self.server("web2", networks=["shop"], dns=["www.example.com"]),
                self.server(
                    "db1",
                    roles=["postgres", "redis"],
                    firewall_rules=[SSH, METRICS],
                    networks=["shop"],
                    volumes=[{"name": "db1-data", "size_gb": 20}],
                ),
            ],
            "networks": [{"name": "shop", "range": "10.20.0.0/16"}],
            "load_balancers": [
                {
                    "name": "front",
                    "provider": self.provider,
                    "region": self.place.region,
                    "plan": self.place.balancer,
                    "roles": ["web"],
                    "ports": [80, 443],
                    "dns": ["example.com"],
                }
            ],
        }

    @property
    def account(self) -> dict[str, str]:
        return {"api_url": self.simulator.url(self.provider), "api_token": self.simulator.token(self.provider)}

    def run(self, check: bool = False, **more: Any) -> dict[str, Any]:
        users = [{"name": "deploy", "keys": [KEY]}]
        return self.run_module(cloud_servers, {"admin_users": users, **more}, check)

    def run_module(self, module: ModuleType, words: dict[str, Any], check: bool = False) -> dict[str, Any]:
        """What a module answers; it breaks no rule of the API and does not tell the token."""
        common = {"accounts": {self.provider: self.account}, "timeout_seconds": 20, "_ansible_check_mode": check}
        self.capsys.readouterr()
        with patch_module_args({**common, **words}), pytest.raises(SystemExit):
            module.main()
        text = self.capsys.readouterr().out
        assert self.account["api_token"] not in text
        assert not self.simulator.violations
        result: dict[str, Any] = json.loads(text)
        return result

    def run_killed(self, **more: Any) -> None:
        """The module without a guard around it."""
        users = [{"name": "deploy", "keys": [KEY]}]
        with patch_module_args({"admin_users": users, "accounts": {self.provider: self.account}, **more}):
            cloud_servers.main()

    def writes(self) -> list[str]:
        """What was asked for that changes something, with the status of the answer."""
        return [
            f"{one.method} {one.path} {one.status}"
            for one in self.simulator.asked(self.provider)
            if one.method != "GET"
        ]

    def fresh(self) -> None:
        """An empty account, with the zone that a person has made; servers take a moment, limits are far away."""
        self.simulator.reset()
        api = self.simulator.apis[self.provider]
        api.boot_seconds = 0.05
        api.limits = [Limit(10**6, 1) for _limit in api.limits]
        if self.provider == "linode":
            api.creations = Limit(10**6, 1)  # type: ignore[attr-defined]
        make_zone(self.simulator, self.provider)


def make_zone(simulator: Simulator, provider: str) -> None:
    with Account(provider, simulator.token(provider), simulator.url(provider)) as account:
        if provider == "hetzner":
            account.post("/zones", {"name": "example.com", "mode": "primary"})
        elif provider == "digitalocean":
            account.post("/domains", {"name": "example.com"})
        elif provider == "vultr":
            account.post("/domains", {"domain": "example.com"})
        else:
            account.post("/domains", {"domain": "example.com", "type": "master", "soa_email": "ops@example.com"})


@pytest.fixture
def cloud(simulator: Simulator, capsys: pytest.CaptureFixture[str], provider: str) -> Cloud:
    one = Cloud(simulator, provider, capsys)
    one.fresh()
    return one


EVERYWHERE = pytest.mark.parametrize("provider", sorted(PLACES))


def words(result: dict[str, Any]) -> list[str]:
    return [f"{one['verb']} {one['kind']} {one['name']}" for one in result["actions"]]


@EVERYWHERE
def test_check_is_the_plan_then_real_then_nothing(cloud: Cloud) -> None:
    begun = len(cloud.writes())
    foretold = cloud.run(check=True, **cloud.site())
    assert foretold["changed"], foretold
    assert len(cloud.writes()) == begun
    real = cloud.run(**cloud.site())
    assert not real.get("failed"), real
    assert words(real) == words(foretold)
    written = cloud.writes()
    again = cloud.run(**cloud.site())
    assert not again["changed"], again
    assert cloud.writes() == written
    for currency, bill in again["monthly"].items():
        # Vultr tells the price of a volume once it is there.
        known = Decimal(2) if cloud.provider == "vultr" else 0
        assert Decimal(bill["now"]) == Decimal(bill["then"]) == Decimal(foretold["monthly"][currency]["then"]) + known
    assert {one["status"] for one in again["servers"].values()} == {"running"}
    assert all(one["public_ipv4"] for one in again["servers"].values())


def test_the_table_has_steps_and_cost(cloud: Cloud) -> None:
    result = cloud.run(check=True, **cloud.site())
    lines = "\n".join(result["table"])
    for word in (
        "web1",
        "bulwark-web",
        "bulwark-postgres-redis",
        "db1-data",
        "front",
        "www.example.com A",
        "address of",
    ):
        assert word in lines
    assert "Monthly cost: 0.00" in lines
    for bill in result["monthly"].values():
        assert Decimal(bill["then"]) > 0


@EVERYWHERE
def test_a_declared_change_is_made_in_place(cloud: Cloud) -> None:
    site = cloud.site()
    cloud.run(**site)
    site["servers"][0]["roles"] = ["web", "workers"]
    site["servers"][0]["labels"] = {"env": "test"}
    site["servers"][2]["firewall_rules"] = [SSH]
    site["servers"][2]["volumes"][0]["size_gb"] = 30
    site["load_balancers"][0]["ports"] = [443, 8443]
    done = cloud.run(**site)
    assert not done.get("failed"), done
    assert set(words(done)) == {
        "create firewall bulwark-web-workers",
        "change server web1",
        "change firewall bulwark-postgres-redis",
        "change volume db1-data",
        "change load_balancer front",
    }
    assert not cloud.run(**site)["changed"]


def test_a_server_leaves_only_by_its_name(cloud: Cloud) -> None:
    site = cloud.site()
    cloud.run(**site)
    kept = {**site, "servers": site["servers"][:2]}
    left = cloud.run(**kept)
    assert not left["changed"]
    assert "note server db1" in words(left)
    refused = cloud.run(**site, destroy=["db1"])
    assert refused["failed"]
    assert "still declared" in refused["msg"]
    gone = cloud.run(**kept, destroy=["db1"])
    assert [word for word in words(gone) if word.startswith("destroy")] == ["destroy server db1"]
    after = cloud.run(**kept)
    assert not after["changed"]
    # Its data stays until it is named too.
    assert "note volume db1-data" in words(after)
    rest = cloud.run(**kept, destroy=["volume/db1-data", "firewall/bulwark-postgres-redis"])
    assert not rest.get("failed"), rest
    assert not [word for word in words(cloud.run(**kept)) if word.startswith("note")]


def test_everything_goes_when_everything_is_named(cloud: Cloud) -> None:
    site = cloud.site()
    cloud.run(**site)
    names = ["web1", "web2", "db1", "volume/db1-data", "load_balancer/front", "network/shop", "firewall/bulwark-web"]
    names += ["firewall/bulwark-postgres-redis"]
    gone = cloud.run(destroy=names)
    assert not gone.get("failed"), gone
    rest = cloud.run(destroy=names)
    assert not rest["changed"]
    assert rest["actions"] == []
    assert {bill["then"] for bill in rest["monthly"].values()} <= {"0.00"}


def test_a_larger_plan_waits_for_the_word_to_restart(cloud: Cloud) -> None:
    site = {"servers": [cloud.server("web1")]}
    before = cloud.run(**site)["monthly"]
    site["servers"][0]["plan"] = cloud.place.larger
    asked = cloud.run(**site)
    assert not asked["changed"]
    assert "needs a restart; restart=web1" in "\n".join(asked["table"])
    done = cloud.run(**site, restart=["web1"])
    assert not done.get("failed"), done
    again = cloud.run(**site)
    assert not again["changed"]
    assert [one["verb"] for one in again["actions"]] == []
    for currency, bill in again["monthly"].items():
        assert Decimal(bill["now"]) > Decimal(before[currency]["then"])


@pytest.mark.parametrize("wrong", ["plan", "region"])
def test_what_is_not_offered_is_refused_before_anything_is_made(cloud: Cloud, wrong: str) -> None:
    begun = len(cloud.writes())
    result = cloud.run(servers=[cloud.server("web1", **{wrong: "none-such"})])
    assert result["failed"]
    assert "none-such" in result["msg"]
    assert "Nothing was changed" in result["msg"]
    assert len(cloud.writes()) == begun


def test_a_zone_that_is_not_there_is_refused_before_anything_is_made(cloud: Cloud) -> None:
    begun = len(cloud.writes())
    result = cloud.run(servers=[cloud.server("web1", dns=["www.example.org"])])
    assert "no zone for www.example.org" in result["msg"]
    assert len(cloud.writes()) == begun


def test_a_bad_token_is_one_sentence(cloud: Cloud) -> None:
    account = {"api_url": cloud.simulator.url(cloud.provider), "api_token": "x" * 64}
    result = cloud.run(servers=[cloud.server("web1")], accounts={cloud.provider: account})
    assert result["failed"]
    assert "401" in result["msg"]
    assert "x" * 64 not in result["msg"]


def sample(count: int, size: int) -> list[int]:
    """Numbers below count; all of them in the full form."""
    return list(range(count)) if FULL else sorted(random.Random(SEED).sample(range(count), min(size, count)))


@pytest.mark.parametrize("kind", ["cut", "reset", "status"])
def test_a_lost_answer_makes_nothing_twice(cloud: Cloud, kind: str) -> None:
    """Each request that makes something is done and its answer lost, or refused with 503, one at a time."""
    site, simulator = cloud.site(), cloud.simulator
    cloud.run(**site)
    targets = [n for n, one in enumerate(simulator.asked(cloud.provider)) if one.method not in ("GET", "DELETE")]
    expected = inventory_of(cloud)
    for index in sample(len(targets), 2):
        cloud.fresh()
        number = targets[index]
        simulator.faults[cloud.provider].clear()
        simulator.fault(
            cloud.provider, kind, skip=number - len(simulator.asked(cloud.provider)), status=503, body={"message": "x"}
        )
        done = cloud.run(**site)
        assert not done.get("failed"), (index, done)
        assert inventory_of(cloud) == expected, index


def inventory_of(cloud: Cloud) -> dict[str, list[str]]:
    """How many of each thing there are, by name."""
    stock = cloud.simulator.account(cloud.provider).stock
    words = ("name", "label", "description", "size_gb")
    return {
        kind: sorted(next((str(one[word]) for word in words if one.get(word)), "") for one in shelf.values())
        for kind, shelf in stock.items()
        if kind not in ("actions", "events", "images")
    }


class KilledError(Exception):
    """The run ended here."""


@EVERYWHERE
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    site = cloud.site()
    cloud.run(**site)
    total = len(cloud.simulator.asked(cloud.provider))
    expected = inventory_of(cloud)
    real = Account.attempt
    for limit in sample(total, 4):
        cloud.fresh()
        left = [limit]

        def _attempt(self: Any, *words: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return real(self, *words)

        with monkeypatch.context() as patch:
            patch.setattr(Account, "attempt", _attempt)
            # It may be done before that: how often it asks whether a server runs is a matter of time.
            with pytest.raises((KilledError, SystemExit)):
                cloud.run_killed(**site)
        done = cloud.run(**site)
        assert not done.get("failed"), (limit, done)
        assert inventory_of(cloud) == expected, limit


def test_snapshots_come_every_week_and_four_stay(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.run(servers=[cloud.server("web1"), cloud.server("web2")])

    def _snapshots(now: datetime, check: bool = False, **words: Any) -> dict[str, Any]:
        class Frozen(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return now

        monkeypatch.setattr(cloud_snapshots, "datetime", Frozen)
        return cloud.run_module(cloud_snapshots, {"servers": ["web1", "web2"], **words}, check)

    begin = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)
    foretold = _snapshots(begin, check=True)
    assert foretold["taken"] == ["bulwark-web1-20260101T020000Z", "bulwark-web2-20260101T020000Z"]
    assert _snapshots(begin)["taken"] == foretold["taken"]
    assert not _snapshots(begin + timedelta(days=1))["changed"]
    for week in range(1, 4):
        assert _snapshots(begin + timedelta(weeks=week))["removed"] == []
    last = _snapshots(begin + timedelta(weeks=4), check=True)
    assert _snapshots(begin + timedelta(weeks=4)) == last
    assert last["removed"] == ["bulwark-web1-20260101T020000Z", "bulwark-web2-20260101T020000Z"]
    missing = _snapshots(begin, servers=["web9"])
    assert "There is no server web9" in missing["msg"]


@EVERYWHERE
def test_a_snapshot_is_an_image(cloud: Cloud) -> None:
    """The way back of a destroyed server."""
    site = {"servers": [cloud.server("web1")]}
    cloud.run(**site)
    cloud.run_module(cloud_snapshots, {"servers": ["web1"]})
    with Account(cloud.provider, cloud.account["api_token"], cloud.account["api_url"]) as account:
        found = CLOUDS[cloud.provider](account, build.Clock()).snapshots()
    image = next(one.id for one in found if one.name.startswith("bulwark-web1-"))
    cloud.run(destroy=["web1"])
    site["servers"][0]["image"] = image
    again = cloud.run(**site)
    assert not again.get("failed"), again
    assert not cloud.run(**site)["changed"]


def test_all_of_a_site_has_a_price(cloud: Cloud) -> None:
    """But for what the API of the provider does not tell."""
    untold = {
        "digitalocean": ["load_balancer front", "volume db1-data"],
        "vultr": ["load_balancer front", "volume db1-data"],
    }
    bills = cloud.run(check=True, **cloud.site())["monthly"].values()
    assert [sorted(bill["unknown"]) for bill in bills] == [untold.get(cloud.provider, [])]

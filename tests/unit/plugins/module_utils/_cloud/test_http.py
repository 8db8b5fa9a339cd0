"""One account: limits by the rules of each provider, what is tried again and what is not, and no token in any text."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from plugins.module_utils._cloud import http
from plugins.module_utils._cloud.connection import Answer
from plugins.module_utils._cloud.errors import CloudError
from plugins.module_utils._cloud.http import Account
from plugins.module_utils._cloud.providers import PROVIDERS
from tests.cloud.simulator import Simulator

DATE = "Fri, 20 Nov 2026 10:00:00 GMT"
EPOCH = 1795168800


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(hosts=3) as one:
        yield one


def account(simulator: Simulator, provider: str = "hetzner", **words: Any) -> Account:
    return Account(provider, simulator.token(provider), simulator.url(provider), "prod.yml", **words)


def limited(provider: str, **headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Account(provider, "token").limit_seconds(Answer(429, "", {"date": DATE, **named}, b""))


def test_a_limit_is_waited_for_as_each_provider_says():
    # Hetzner's reset is when an hour's worth is back.
    assert limited("hetzner", ratelimit_reset=str(EPOCH + 3600)) is None
    assert limited("digitalocean", ratelimit_reset=str(EPOCH + 40)) == 40
    assert limited("digitalocean", ratelimit_reset=str(EPOCH + 40), retry_after="7") == 7
    assert limited("vultr", retry_after="3") == 3
    assert limited("linode", x_ratelimit_reset=str(EPOCH + 9)) == 9
    assert limited("linode", x_ratelimit_reset=str(EPOCH - 9)) == 0
    assert limited("linode") is None


def test_a_date_counts_by_the_clock_of_the_server():
    assert limited("vultr", retry_after="Fri, 20 Nov 2026 10:00:05 GMT") == 5
    assert limited("vultr", retry_after="soon") is None


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_text_of_the_api_with_the_token_in_it_is_shown_without(simulator, provider):
    token = simulator.token(provider)
    body = {"error": f"the token {token} is bad\x1b[31m\nreally", "message": f"the token {token} is bad"}
    simulator.fault(provider, "status", status=403, body=body)
    with account(simulator, provider) as one, pytest.raises(CloudError) as caught:
        one.get("/regions")
    text = str(caught.value)
    assert token not in text
    assert "********" in text
    assert "(prod.yml)" in text
    assert text.isprintable()
    assert (caught.value.status, caught.value.__cause__) == (403, None)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut"])
def test_a_token_that_cannot_be_one_is_refused_without_a_request(token):
    with pytest.raises(CloudError, match="token is empty or has characters") as caught:
        Account("hetzner", token)
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("address", ["api.hetzner.cloud/v1", "ftp://x/v1", "https://", "https://x/v1?a=b"])
def test_an_address_that_cannot_be_one_is_refused(address):
    with pytest.raises(CloudError, match="api_url"):
        Account("hetzner", "token", address)


def test_what_may_have_been_done_is_not_done_again(simulator):
    for kind in ("cut", "closed", "html"):
        simulator.log.clear()
        simulator.fault("hetzner", kind, path="/ssh_keys")
        with account(simulator) as one, pytest.raises(CloudError):
            one.post("/ssh_keys", {"name": "a", "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI a"})
        assert [asked.method for asked in simulator.log] == ["POST"]


def test_a_limit_is_waited_for_also_before_a_change(simulator):
    simulator.fault("hetzner", "status", status=429, headers={"Retry-After": "0"}, path="/networks")
    with account(simulator) as one:
        made = one.post("/networks", {"name": "a", "ip_range": "10.9.0.0/16"})
        assert one.get(f"/networks/{made['network']['id']}")["network"]["name"] == "a"
        assert one.delete(f"/networks/{made['network']['id']}") == {}
    assert [asked.status for asked in simulator.log][:2] == [429, 201]


def test_who_is_limited_keeps_the_others_waiting(simulator):
    """Eight requests that all run into the limit would only use up more of it."""
    simulator.latency = 0.05
    simulator.fault("hetzner", "status", status=429, headers={"Retry-After": "1"}, path="/locations")
    with account(simulator, connections=2) as one:
        one.side_by_side([lambda: one.get("/locations"), *[lambda: one.get("/networks")] * 6])
    late = [asked.begun for asked in simulator.log if asked.begun > simulator.log[0].begun + 0.9]
    assert len(late) >= 5


def test_connections_are_kept(simulator):
    with account(simulator) as one:
        for _time in range(5):
            one.get("/servers")
    assert {asked.connection for asked in simulator.log} == {1}
    assert one.requests == 5


def test_there_are_no_more_connections_than_allowed(simulator):
    simulator.latency = 0.02
    with account(simulator, connections=3) as one:
        one.side_by_side([lambda: one.get("/servers")] * 12)
    assert len({asked.connection for asked in simulator.log}) <= 3


def test_the_total_time_is_kept_whatever_hangs(monkeypatch, simulator):
    """Not even the resolver, which knows no time limit."""
    monkeypatch.setattr("socket.getaddrinfo", lambda *_words, **_named: time.sleep(10))
    begun = time.monotonic()
    with account(simulator, total_timeout_seconds=0.5) as one, pytest.raises(CloudError, match=r"within 0\.5 s"):
        one.get("/servers")
    assert time.monotonic() - begun < 2


def test_an_error_ends_those_beside_it(simulator):
    """They must not go on for the rest of the time."""
    simulator.fault("hetzner", "never", path="/servers")
    before = set(threading.enumerate())
    with account(simulator) as one, pytest.raises(CloudError, match="failed"):
        one.side_by_side([lambda: one.get("/servers"), lambda: one.get("/nothing")])
    begun = time.monotonic()
    while any("(run)" in thread.name for thread in set(threading.enumerate()) - before):
        assert time.monotonic() - begun < 3
        time.sleep(0.02)


def test_a_list_that_never_rests_ends_with_an_error(simulator, monkeypatch):
    monkeypatch.setattr(http, "READS", 2)
    simulator.fault(
        "hetzner", "edit", times=0, edit=lambda body: {**body, "meta": {"pagination": {"total_entries": 9}}}
    )
    with account(simulator) as one, pytest.raises(CloudError, match="announces 9 entries and gives 3"):
        one.list_all("/servers", "servers")

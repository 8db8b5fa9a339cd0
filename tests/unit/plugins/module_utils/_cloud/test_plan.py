"""Plans: what is created, changed, left alone and destroyed, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._cloud.plan import KINDS, Action, Plan, Resource, bills, make_plan, openings, table

EURO = {"hetzner": "EUR", "vultr": "USD"}.__getitem__
PRICES = {"small": Decimal("4.00"), "large": Decimal("9.50")}


def server(name: str = "web1", number: str = "", **spec: Any) -> Resource:
    whole = {"region": "fsn1", "plan": "small", "image": "debian-12", "roles": ["web"], "labels": {}, **spec}
    addresses = {"A": f"192.0.2.{number}", "AAAA": None}
    facts = {"status": "running", "addresses": addresses} if number else {}
    return Resource("server", "hetzner", name, whole, number, True if number else None, facts)


def record(*names: str) -> Resource:
    facts = {"domain": "www.example.com", "targets": [("server", name) for name in names]}
    return Resource("record", "hetzner", "www.example.com A", {"type": "A", "values": []}, facts=facts)


def price(resource: Resource) -> Decimal | None:
    return PRICES.get(resource.spec["plan"]) if resource.kind == "server" else Decimal(0)


def steps(plan: Plan) -> list[tuple[str, str]]:
    return [(action.verb, action.resource.word) for action in plan.actions if action.verb != "keep"]


def test_what_is_missing_is_created_and_what_is_there_is_kept():
    plan = make_plan([server("web1"), server("web2")], [server("web1", "7")])
    assert steps(plan) == [("create", "web2")]
    assert not plan.problems


def test_what_is_not_declared_is_left_alone_and_said():
    plan = make_plan([], [server("web1", "7"), replace(server("foreign", "8"), ours=False)])
    assert steps(plan) == [("note", "web1")]
    assert "destroy=web1" in plan.actions[0].text
    assert not plan.todo


def test_only_what_is_named_is_destroyed():
    there = [server("web1", "7"), server("web2", "8")]
    assert steps(make_plan([], there, destroy=["web2"])) == [("note", "web1"), ("destroy", "web2")]


def test_what_is_declared_is_not_destroyed():
    plan = make_plan([server("web1")], [server("web1", "7")], destroy=["web1"])
    assert "still declared" in plan.problems[0]
    assert not plan.todo


def test_what_is_foreign_is_not_destroyed():
    plan = make_plan([], [replace(server("db", "7"), ours=False)], destroy=["db"])
    assert "was not made by this collection" in plan.problems[0]
    assert not plan.todo


def test_what_is_foreign_and_declared_is_said():
    plan = make_plan([server(roles=["db"])], [replace(server("web1", "7"), ours=False)])
    assert plan.todo[0].text.startswith("found here and not made by us; roles ")


def test_destroying_what_is_gone_is_no_mistake():
    assert make_plan([], [], destroy=["web1"]) == Plan(())


def test_two_of_one_name_are_an_error_until_one_is_named_by_its_id():
    there = [server("web1", "7"), server("web1", "8")]
    plan = make_plan([server("web1")], there)
    assert "web1@8" in plan.problems[0]
    assert not plan.todo
    assert make_plan([], there, destroy=["web1"]).problems
    plan = make_plan([server("web1")], there, destroy=["web1@8"])
    assert not plan.problems
    assert [(a.verb, a.resource.id) for a in plan.todo] == [("destroy", "8")]


def test_a_region_is_not_changed_and_said():
    plan = make_plan([server(region="nbg1")], [server("web1", "7")])
    assert [(a.verb, a.differences) for a in plan.actions] == [("note", ("region",))]


def test_a_plan_changes_only_for_servers_that_may_restart():
    there = [server("web1", "7")]
    assert steps(make_plan([server(plan="large")], there)) == [("note", "web1")]
    assert steps(make_plan([server(plan="large")], there, restart=["web1"])) == [("restart", "web1")]


def test_a_volume_grows_and_never_shrinks():
    def volume(size: int, number: str = "") -> Resource:
        return Resource("volume", "hetzner", "media", {"size_gb": size, "region": "fsn1", "server": "web1"}, number)

    assert steps(make_plan([volume(20)], [volume(10, "7")])) == [("change", "volume/media")]
    assert steps(make_plan([volume(5)], [volume(10, "7")])) == [("note", "volume/media")]


def test_labels_and_networks_of_other_origin_stay():
    there = [server("web1", "7", labels={"env": "prod", "by": "hand"}, networks=["shop", "other"])]
    assert not make_plan([server(labels={"env": "prod"}, networks=["shop"])], there).todo
    plan = make_plan([server(labels={"env": "test"}, networks=["new"])], there)
    assert plan.todo[0].differences == ("labels", "networks")
    assert "+new" in plan.todo[0].text
    assert "-shop" not in plan.todo[0].text


def test_what_a_provider_cannot_change_is_said():
    wanted, there = [server(networks=["shop"])], [server("web1", "7", networks=[])]
    plan = make_plan(wanted, there, fixed=[("hetzner", "server", "networks")])
    assert steps(plan) == [("note", "web1")]


def test_a_record_waits_for_its_servers():
    plan = make_plan([server("web1"), server("web2"), record("web1", "web2")], [server("web1", "7")])
    waiting = plan.todo[-1]
    assert waiting.waits_for == ("web2",)
    assert waiting.resource.spec["values"] == ["192.0.2.7", "(address of web2)"]
    later = make_plan([record("web1", "web2")], [server("web1", "7"), server("web2", "8")]).todo[0]
    assert later.waits_for == ()
    assert later.resource.spec["values"] == ["192.0.2.7", "192.0.2.8"]


def test_a_record_of_a_family_that_no_server_has_is_not_made():
    wanted = replace(record("web1"), spec={"type": "AAAA", "values": []})
    assert not make_plan([wanted], [server("web1", "7")]).todo


def test_things_go_in_the_opposite_order_after_everything_else():
    there = [Resource(kind, "hetzner", "old", {}, "1", True) for kind in KINDS]
    words = [one.word for one in there]
    plan = make_plan([server("web1")], there, destroy=words)
    assert [a.resource.kind for a in plan.todo] == ["server", *reversed(KINDS)]


def test_the_bill_has_what_is_and_what_will_be():
    there = [server("web1", "7"), server("old", "8", plan="large")]
    plan = make_plan([server("web1", plan="large"), server("web2")], there, destroy=["old"], restart=["web1"])
    bill = bills(plan.actions, price, EURO)["EUR"]
    assert (bill.now, bill.then) == (Decimal("13.50"), Decimal("13.50"))
    lines = table(plan.actions, price, EURO)
    assert "+5.50 EUR" in "\n".join(lines)
    assert "-9.50 EUR" in "\n".join(lines)
    assert lines[-1] == "Monthly cost: 13.50 EUR now, 13.50 EUR after this."


def test_what_is_left_as_it_is_costs_what_it_costs():
    plan = make_plan([server(plan="large", roles=["db"])], [server("web1", "7")])
    assert [action.verb for action in plan.actions] == ["note", "change"]
    bill = bills(plan.actions, price, EURO)["EUR"]
    assert (bill.now, bill.then) == (Decimal("4.00"), Decimal("4.00"))


def test_a_resize_beside_another_change_counts_once():
    plan = make_plan([server(plan="large", roles=["db"])], [server("web1", "7")], restart=["web1"])
    bill = bills(plan.actions, price, EURO)["EUR"]
    assert (bill.now, bill.then) == (Decimal("4.00"), Decimal("9.50"))


def test_an_unknown_price_is_not_taken_for_zero():
    lines = table(make_plan([server(plan="secret")], []).actions, price, EURO)
    assert "?" in lines[1]
    assert lines[-1] == "Not in the price list, so not in the sum: server web1."


def test_currencies_are_not_added_up():
    plan = make_plan([server("web1"), replace(server("web2"), provider="vultr")], [])
    assert {word: bill.then for word, bill in bills(plan.actions, price, EURO).items()} == {
        "EUR": Decimal("4.00"),
        "USD": Decimal("4.00"),
    }


def test_a_firewall_says_who_gets_in():
    rules = ["icmp - ::/0", "tcp 443 0.0.0.0/0", "tcp 443 ::/0", "tcp 22 0.0.0.0/0", "tcp 22 ::/0"]
    rules += ["tcp 5432 10.20.0.0/16", "udp 51820 192.0.2.1/32", "udp 51820 198.51.100.0/24"]
    assert openings(rules) == (
        "22, 443 from anywhere; 51820/udp from 192.0.2.1/32 and 198.51.100.0/24; 5432 from 10.20.0.0/16"
    )
    assert openings([]) == "nothing open"


def test_nothing_to_do_is_said():
    assert table(make_plan([server()], [server("web1", "7")]).actions, price, EURO)[0] == "Everything is as declared."


names = st.sampled_from(["a", "b", "c", "d"])
specs = st.fixed_dictionaries(
    {"plan": st.sampled_from(["small", "large"]), "roles": st.sampled_from([["web"], ["db"]])}
)
fleets = st.dictionaries(names, specs, max_size=4)


def done(action: Action) -> Resource:
    was = dict(action.existing.spec) if action.existing else dict(action.resource.spec)
    assert action.wanted
    was.update({name: action.wanted.spec[name] for name in action.differences})
    return server(action.resource.name, action.existing.id if action.existing else "9", **was)


@given(wanted=fleets, there=fleets, doomed=st.sets(names), restart=st.sets(names))
def test_a_plan_that_was_followed_leaves_nothing_to_do(
    wanted: dict[str, Any], there: dict[str, Any], doomed: set[str], restart: set[str]
):
    declared = [server(name, **spec) for name, spec in wanted.items()]
    existing = {name: server(name, str(n), **spec) for n, (name, spec) in enumerate(there.items())}
    doomed -= wanted.keys()
    plan = make_plan(declared, list(existing.values()), destroy=doomed, restart=restart)
    for action in plan.todo:
        if action.verb == "destroy":
            assert action.resource.name in doomed
            del existing[action.resource.name]
        else:
            existing[action.resource.name] = done(replace(action, existing=existing.get(action.resource.name)))
    assert existing.keys() == (there.keys() - doomed) | wanted.keys()
    assert not make_plan(declared, list(existing.values()), destroy=doomed, restart=restart).todo

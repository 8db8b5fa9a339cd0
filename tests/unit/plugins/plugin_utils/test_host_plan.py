"""The host plan: the table of the reference deployment to the megabyte, and its laws over all hosts."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.plugin_utils import host_plan as plan

ALL = list(plan.SHARES)
SUBSETS = [list(subset) for subset in chain.from_iterable(combinations(ALL, n) for n in range(len(ALL) + 1))]
memory = st.integers(512, 1 << 20)
cpus = st.integers(1, 128)
subsets = st.sampled_from(SUBSETS)

REFERENCE_MB = {
    "postgres": 4096,
    "redis": 512,
    "web_app": 1024,
    "celery_workers": 6144,
    "celery_beat": 256,
    "flower": 256,
    "system": 2048,
    "reserve": 2048,
}
REFERENCE_CPUS = {
    "postgres": 1,
    "redis": 0.5,
    "web_app": 1,
    "celery_workers": 4,
    "celery_beat": 0.5,
    "flower": 0.5,
    "system": 0.5,
    "reserve": 0,
}


def test_reference_deployment():
    assert plan.host_plan_memory(16384, ALL) == REFERENCE_MB
    assert plan.host_plan_cpu(8, ALL) == REFERENCE_CPUS


@given(memory, subsets)
def test_nobody_gets_what_is_not_there(total, services):
    shares = plan.host_plan_memory(total, services)
    assert set(shares) == {*services, "system", "reserve"}
    assert sum(shares.values()) <= total


@given(memory, subsets)
def test_floors_and_caps_hold(total, services):
    for name, megabytes in plan.host_plan_memory(total, services).items():
        share = {**plan.SHARES, "system": plan.SYSTEM, "reserve": plan.RESERVE}[name]
        assert share.memory_floor_mb <= megabytes <= share.memory_cap_mb


@given(memory, st.integers(0, 4096), subsets)
@example(16383, 1, ALL)
def test_a_larger_host_gives_nobody_less(total, more, services):
    small, large = plan.host_plan_memory(total, services), plan.host_plan_memory(total + more, services)
    assert all(large[name] >= small[name] for name in small)


@given(memory, subsets, st.sampled_from(ALL))
def test_who_leaves_takes_nothing_from_the_others(total, services, gone):
    rest = [name for name in services if name != gone]
    before, after = plan.host_plan_memory(total, services), plan.host_plan_memory(total, rest)
    assert all(after[name] >= before[name] for name in rest)


@given(memory, st.sampled_from([s for s in SUBSETS if set(s) - {"celery_beat", "flower"}]))
def test_all_is_given_away(total, services):
    """But for what rounding to whole MiB leaves."""
    assert total - sum(plan.host_plan_memory(total, services).values()) <= len(services) + 2


@given(cpus, subsets)
def test_processors(count, services):
    shares = plan.host_plan_cpu(count, services)
    assert sum(shares.values()) <= count + 1e-9
    assert all(value > 0 for name, value in shares.items() if name != "reserve")
    more = plan.host_plan_cpu(count + 1, services)
    assert all(more[name] >= shares[name] for name in shares)


@given(
    memory, subsets, st.dictionaries(st.sampled_from([*ALL, "system", "reserve"]), st.integers(0, 1 << 20), max_size=3)
)
def test_overrides_are_kept_or_refused(total, services, overrides):
    wanted = sum(overrides.get(name, 0) for name in [*services, "system", "reserve"])
    if wanted > total:
        with pytest.raises(AnsibleFilterError, match="RAM MiB"):
            plan.host_plan_memory(total, services, overrides)
        return
    try:
        shares = plan.host_plan_memory(total, services, overrides)
    except AnsibleFilterError:
        # Refused although it would fit: only where what is left cannot hold the others at their least.
        others = plan.host_plan_memory(total, services)
        least = {name: plan.SHARES[name].memory_floor_mb for name in services}
        least.update({name: others[name] for name in ("system", "reserve")})
        assert wanted + sum(megabytes for name, megabytes in least.items() if name not in overrides) > total
        return
    assert sum(shares.values()) <= total
    assert all(shares[name] == value for name, value in overrides.items() if name in shares)


def test_too_much_is_refused_with_the_table():
    with pytest.raises(AnsibleFilterError) as caught:
        plan.host_plan_memory(2048, ALL, {"postgres": 4000})
    text = str(caught.value)
    assert "the host has 2048 MiB" in text
    assert "postgres             4000" in text
    assert "move a service to another host" in text


@pytest.mark.parametrize(
    ("total", "services", "overrides", "words"),
    [
        (256, ALL, {}, "Take a larger plan"),
        (4096, ["postgress"], {}, "Did you mean 'postgres'?"),
        (4096, ALL, {"celery": 100}, "there is no service 'celery'"),
        (4096, ALL, {"postgres": "1G"}, "wants whole MiB"),
        (4096, ALL, {"postgres": None}, "wants whole MiB"),
        (4096, ALL, {"postgres": -1}, "cannot have -1 MiB"),
    ],
)
def test_bad_input_is_a_sentence(total, services, overrides, words):
    with pytest.raises(AnsibleFilterError) as caught:
        plan.host_plan_memory(total, services, overrides)
    assert words in str(caught.value)


def test_the_smallest_server_works():
    """A server sold as 512 MiB shows about 460."""
    shares = plan.host_plan_memory(plan.MEMORY_AT_LEAST_MB, ALL)
    assert sum(shares.values()) <= plan.MEMORY_AT_LEAST_MB


def test_groups_decide_the_services():
    assert plan.planned_services(["postgres", "prod"]) == ["postgres"]
    assert plan.planned_services(["workers"]) == ["celery_workers", "celery_beat", "flower"]
    assert plan.planned_services(["prod"]) == ALL


def test_table():
    table = plan.host_plan_table(REFERENCE_MB, REFERENCE_CPUS).splitlines()
    assert table[0].split() == ["service", "RAM", "MiB", "CPU"]
    assert table[-1].split() == ["sum", "16384", "8.00"]
    assert len(table) == len(REFERENCE_MB) + 2

"""Whatever happens while an inventory is read: the whole list, or an exit status and a sentence. Never a shorter list.

The cases run side by side, as most of them wait; each has a simulator of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cloud.conftest import FULL, SEED, Cloud, Read
from tests.cloud.fleet import fleet
from tests.cloud.simulator import PROVIDERS, Simulator
from tests.cloud.situations import EITHER, ERROR, MANY, SITUATIONS, WHOLE, awkward, expected_ids

ALL = [(name, provider) for name, one in SITUATIONS.items() for provider in one.only] + [
    ("awkward", provider) for provider in PROVIDERS
]
SAMPLE = 28
TOTAL_SECONDS = 12
# A start of Ansible on a machine that does other things as well.
START_SECONDS = 30


class Case(NamedTuple):
    read: Read
    before: list[str]
    after: list[str]
    tokens: list[str]
    leaks: list[str]
    violations: list[str]


Cases = dict[tuple[str, str], Future[Case]]


def chosen() -> list[tuple[str, str]]:
    """All of them, or a sample of the situations, each at one provider; all providers get their share."""
    if FULL:
        return ALL
    dice = random.Random(SEED)
    names = dice.sample(sorted({name for name, _ in ALL}), SAMPLE)
    picked = []
    for number, name in enumerate(names):
        possible = [provider for one, provider in ALL if one == name]
        wish = PROVIDERS[number % len(PROVIDERS)]
        picked.append((name, wish if wish in possible else dice.choice(possible)))
    return picked


CASES = chosen()


def play(folder: Path, name: str, provider: str) -> Case:
    folder.mkdir()
    with Simulator() as simulator:
        situation = SITUATIONS.get(name)
        machines = fleet(MANY[provider] if situation and situation.many else 60) if situation else awkward(provider)
        simulator.fill(provider, machines)
        cloud = Cloud(folder, simulator)
        cloud.source(provider, total_timeout_seconds=TOTAL_SECONDS)
        tokens = [token for api in simulator.apis.values() for token in api.accounts]
        before = expected_ids(simulator, provider)
        if situation:
            situation.prepare(simulator, provider)
        if name == "empty account":
            before = []
        read = cloud.read("--list", "-vvvv")
        after = expected_ids(simulator, provider) if simulator.apis[provider].accounts else []
        return Case(read, before, after, tokens, cloud.leaks(), simulator.violations)


@pytest.fixture(scope="module")
def cases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[Case]]]:
    folder = tmp_path_factory.mktemp("situations")
    asked = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(4) as pool:
        yield {
            case: pool.submit(play, folder / str(number), *case)
            for number, case in enumerate(CASES)
            if "-".join(case) in asked
        }


@pytest.mark.parametrize(("name", "provider"), CASES)
def test_whole_or_an_error(cases: Cases, name: str, provider: str) -> None:
    case = cases[name, provider].result()
    read = case.read
    situation = SITUATIONS.get(name)
    ends = situation.ends if situation else WHOLE
    shown = read.err[-2500:]
    assert "Traceback" not in read.said, shown
    assert not [token for token in case.tokens if token in read.said]
    assert not case.leaks
    assert not case.violations
    assert read.seconds < TOTAL_SECONDS + START_SECONDS, f"{read.seconds:.1f} s\n{shown}"
    if read.code == 0:
        assert ends in (WHOLE, EITHER), "it had to fail:\n" + shown
        assert read.ids in (case.before, case.after), f"{len(read.ids)} of {len(case.before)}\n{shown}"
        assert all("ansible_host" not in one or one["ansible_host"] for one in read.hosts.values())
        return
    assert ends in (ERROR, EITHER), "it had to give the whole list:\n" + shown
    # Ansible goes on to show what its own parsers think of the file; ours is to be the first to speak.
    complaint = next(line for line in read.err.splitlines() if line.startswith(("[ERROR]", "[WARNING]")))
    assert f"main.{provider}.yml" in complaint, shown
    says = situation.says if situation else ()
    assert not says or any(word.lower() in complaint.lower() for word in says), complaint

"""Two hosts and one store: drills and pruning by another host than the one whose backups they are."""

from __future__ import annotations

import dataclasses
import json

import pytest

from plugins.module_utils._backup import jobs, metrics, state
from plugins.module_utils._backup.errors import SettingsError
from plugins.module_utils._backup.settings import Keep, checked

from .memory import TestAgent, printing


@pytest.fixture
def agent(tmp_path):
    one = TestAgent(tmp_path, printing("shop", "echo one"))
    jobs.run(one, one.settings.jobs[0])
    return one


def another(host, agent, tmp_path):
    """An agent of another host, with the same store and time, that has the job as one of the first host."""
    other = TestAgent(tmp_path / host, dataclasses.replace(printing("shop", "false"), host="h1"))
    other.settings = dataclasses.replace(other.settings, host=host)
    other.store, other.clock = agent.store, agent.clock
    return other


def drill_on(host, agent, tmp_path, **changes):
    """Drills as another host, and changes what it reports."""
    agent.clock.pass_time(hours=1)
    other = another(host, agent, tmp_path)
    jobs.drill(other, other.settings.jobs[0])
    key = max(key for key in agent.store.objects if "/drill-" in key)
    result = {**json.loads(agent.store.objects[key][0]), **changes}
    agent.store.replace(key, json.dumps(result).encode())
    return agent.clock().timestamp()


def known(agent):
    agent.clock.pass_time(hours=1)
    jobs.prune(agent, agent.settings.jobs)
    return state.read_states(agent.settings.state_dir)["shop"]


def test_before_any_drill(agent):
    assert "last_good_drill" not in known(agent)


def test_a_good_drill(agent, tmp_path):
    when = drill_on("drills", agent, tmp_path, seconds=7)
    found = known(agent)
    assert (found["last_good_drill"], found["drill_seconds"], found["drill_error"]) == (when, 7, "")


def test_a_bad_drill_does_not_hide_the_good_one_before_it(agent, tmp_path):
    when = drill_on("drills", agent, tmp_path)
    jobs.run(agent, agent.settings.jobs[0])
    drill_on("drills", agent, tmp_path, ok=False)
    found = known(agent)
    assert found["last_good_drill"] == when
    assert found["drill_error"].startswith("on drills;")


def test_a_later_drill_of_its_own_counts_more(agent, tmp_path):
    drill_on("drills", agent, tmp_path, ok=False)
    agent.clock.pass_time(hours=1)
    jobs.drill(agent, agent.settings.jobs[0])
    assert known(agent)["drill_error"] == ""


def test_a_result_that_was_overwritten_says_nothing(agent, tmp_path):
    drill_on("drills", agent, tmp_path)
    agent.store.replace(max(key for key in agent.store.objects if "/drill-" in key), b"{ half a fi")
    assert "last_good_drill" not in known(agent)


def test_two_hosts_have_jobs_of_one_name(agent, tmp_path):
    """A drill host calls them something else; messages, metrics and the store say what they are called there."""
    second = TestAgent(tmp_path / "h2", printing("shop", "echo two"))
    second.settings = dataclasses.replace(second.settings, host="h2")
    second.store, second.clock = agent.store, agent.clock
    jobs.run(second, second.settings.jobs[0])
    other = TestAgent(
        tmp_path / "drills",
        *(dataclasses.replace(printing(f"{host}-shop", "false"), host=host, job="shop") for host in ("h1", "h2")),
    )
    other.settings = checked(dataclasses.replace(other.settings, host="drills"))
    other.store, other.clock = agent.store, agent.clock
    for job in other.settings.jobs:
        report = jobs.drill(other, job)
        assert f"/{job.host}/shop/{report.backup}/drill-" in " ".join(agent.store.objects)
    text = metrics.lines(other.settings, state.read_states(other.settings.state_dir), 0.0)
    for host in ("h1", "h2"):
        assert f'bulwark_backup_last_drill_success{{backup_job="shop",host="{host}",kind="command"}} 1' in text


def test_a_name_there_needs_a_host(agent):
    job = dataclasses.replace(agent.settings.jobs[0], job="blog")
    with pytest.raises(SettingsError, match="say of which, by host"):
        checked(dataclasses.replace(agent.settings, jobs=(job,)))


def test_another_host_prunes_what_it_was_told_to_keep(agent, tmp_path):
    for _day in range(3):
        agent.clock.pass_time(days=1)
        jobs.run(agent, agent.settings.jobs[0])
    other = another("drills", agent, tmp_path)
    before = dict(agent.store.objects)
    assert jobs.prune(other, other.settings.jobs) == []
    assert agent.store.objects == before
    kept = dataclasses.replace(other.settings.jobs[0], keep=Keep(daily=2, weekly=0, monthly=0))
    assert len(jobs.prune(other, [kept])) == 2
    assert state.read_states(other.settings.state_dir)["shop"]["backups"] == 2

"""The flow, with a store in memory and a clock that stands still."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from plugins.module_utils._backup import catalogue, jobs, kinds, state
from plugins.module_utils._backup.errors import (
    BackupError,
    BusyError,
    IntegrityError,
    SettingsError,
    SourceError,
    StoreError,
)
from plugins.module_utils._backup.jobs import find
from plugins.module_utils._backup.kinds import Check
from plugins.module_utils._backup.manifest import from_json
from plugins.module_utils._backup.settings import Job, Keep

from .memory import MemoryStore, TestAgent, printing, refuse

Make = Callable[..., TestAgent]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def _make(*made: Job, **settings: Any) -> TestAgent:
        return TestAgent(tmp_path, *(made or [printing("shop", "echo hello")]), **settings)

    return _make


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A kind C(engine) that makes snapshots elsewhere; those that it was told to forget."""
    forgotten: list[str] = []
    module = ModuleType(f"{kinds.__package__}.kind_engine")

    def forget(context: Any, dropped: list[Any]) -> None:
        forgotten.extend(manifest.engine["snapshot"] for manifest in dropped)

    vars(module).update(
        OPTIONS={},
        REQUIRED=(),
        RESTORE={},
        snapshot=lambda context: {"snapshot": "s1", "plain_bytes": 10, "stored_bytes": 5},
        forget=forget,
        tools=dict,
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(kinds.KINDS, "engine", "kind_engine")
    return forgotten


def known(agent: TestAgent, job: str = "shop") -> Mapping[str, Any]:
    return state.read_states(agent.settings.state_dir).get(job, {})


def files(agent: TestAgent) -> list[str]:
    return [key.split("/", 4)[-1].split("/", 1)[-1] for key in sorted(agent.store.objects)]


def back_up(agent: TestAgent, days: int = 1, job: str = "shop") -> list[str]:
    """A backup on each of so many days; their names."""
    made = []
    for _day in range(days):
        made.append(jobs.run(agent, agent.settings.job(job)).backup)
        agent.clock.pass_time(days=1)
    return made


# run


def test_a_backup_has_its_manifest_last(make: Make) -> None:
    agent = make()
    manifest = jobs.run(agent, agent.settings.job("shop"))
    writes = [key.rsplit("/", 1)[-1] for call, key in agent.store.calls if call in ("complete", "put")]
    assert writes == ["output.zst", "manifest.json"]
    stored = from_json(agent.store.objects[agent.store.file("manifest.json")][0], "x")
    assert stored == manifest
    assert (stored.host, stored.job, stored.started) == ("h1", "shop", "2026-03-01T02:00:00+00:00")
    assert stored.member("output").plain_bytes == 6


def test_a_good_run_is_remembered(make: Make) -> None:
    agent = make()
    manifest = jobs.run(agent, agent.settings.job("shop"))
    assert known(agent)["last_success"] == known(agent)["last_attempt"] == agent.clock().timestamp()
    assert known(agent)["error"] == ""
    assert known(agent)["backup"] == manifest.backup
    assert known(agent)["clock_skew_seconds"] == 0


def test_a_failed_run_is_remembered_and_invisible(make: Make) -> None:
    agent = make(printing("shop", "echo some; echo the disk broke >&2; exit 1"))
    with pytest.raises(SourceError):
        jobs.run(agent, agent.settings.job("shop"))
    assert not agent.store.objects
    assert "the disk broke" in known(agent)["error"]
    assert known(agent)["errors"] == {"source": 1}
    assert "last_success" not in known(agent)


def test_a_good_run_after_a_bad_one_clears_the_error(make: Make, tmp_path: Path) -> None:
    agent = make(printing("shop", f"echo x; test -e {tmp_path}/good"))
    with pytest.raises(SourceError):
        jobs.run(agent, agent.settings.job("shop"))
    (tmp_path / "good").touch()
    jobs.run(agent, agent.settings.job("shop"))
    assert known(agent)["error"] == ""
    assert known(agent)["errors"] == {"source": 1}


def test_without_a_manifest_there_is_no_backup(make: Make) -> None:
    agent = make()
    agent.store.fail = refuse("put", error=StoreError("The store is full."))
    with pytest.raises(StoreError):
        jobs.run(agent, agent.settings.job("shop"))
    with pytest.raises(BackupError, match="There is no backup of h1/shop"):
        find(agent, agent.settings.job("shop"))


def test_unfinished_uploads_of_a_killed_run_are_aborted_by_the_next(make: Make) -> None:
    agent = make(printing("shop", "echo x"), printing("shop2", "echo x"))
    for job in ("shop", "shop2"):
        agent.store.begin(f"pre/fix/h1/{job}/20260301T020000Z-00000000/output.zst", 1)
    jobs.run(agent, agent.settings.job("shop"))
    assert [upload.key.split("/")[3] for upload in agent.store.uploads.values()] == ["shop2"]
    assert any("Aborted the unfinished upload" in line for line in agent.said)


def test_a_key_that_may_only_write_is_enough(make: Make) -> None:
    agent = make()
    agent.store.fail = refuse("list", "unfinished", "read", "delete")
    jobs.run(agent, agent.settings.job("shop"))
    assert files(agent) == ["manifest.json", "output.zst"]


def test_a_clock_that_was_set_back_is_said(make: Make) -> None:
    agent = make()
    back_up(agent)
    agent.clock.pass_time(days=-30)
    jobs.run(agent, agent.settings.job("shop"))
    assert any("is from the future" in line and "timedatectl" in line for line in agent.said)


def test_a_clock_that_differs_from_the_stores_is_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    real = agent.store.put

    def put(key: str, data: bytes) -> None:
        agent.clock.pass_time(minutes=-20)
        real(key, data)
        agent.clock.pass_time(minutes=20)

    monkeypatch.setattr(agent.store, "put", put)
    jobs.run(agent, agent.settings.job("shop"))
    assert known(agent)["clock_skew_seconds"] == 1200
    assert any("differs from the store's by 1200 s" in line for line in agent.said)


def test_two_runs_at_once(make: Make) -> None:
    agent = make()
    job = agent.settings.job("shop")
    with (
        agent.alone("The backup", job, "run"),
        pytest.raises(BusyError, match=r"The backup of shop .* is not done yet"),
    ):
        jobs.run(agent, job)
    assert not agent.store.objects
    # Busy is no failure of the job: the one that holds the lock is at work.
    assert known(agent) == {}


def test_a_dry_run_touches_nothing(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"), dry_run=True)
    assert not agent.store.objects
    assert known(agent) == {}


def test_the_job_of_another_host_is_not_run_here(make: Make) -> None:
    agent = make(Job("shop", "command", host="db1", options={"command": ["true"]}))
    with pytest.raises(SettingsError, match="is that of host db1"):
        jobs.run(agent, agent.settings.job("shop"))


def test_without_recipients_nothing_is_stored(make: Make) -> None:
    agent = make(encrypted=True)
    with pytest.raises(SettingsError, match="no recipients"):
        jobs.run(agent, agent.settings.job("shop"))
    assert not agent.store.objects


def test_evidence_of_the_end_is_in_the_manifest(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    kind = kinds.kind_of(agent.settings.job("shop"))

    def streams(context: Any) -> Iterator[kinds.Stream]:
        made = [kinds.Stream(name, kinds.Command(("echo", name))) for name in ("a", "b")]
        yield from made
        made[0].evidence["rows"] = 5

    monkeypatch.setattr(kind, "streams", streams)
    manifest = jobs.run(agent, agent.settings.job("shop"))
    assert [(member.name, member.evidence) for member in manifest.members] == [("a", {"rows": 5}), ("b", {})]


def test_a_kind_is_told_when_it_is_over(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a snapshot, a lock, a replication slot."""
    agent = make()
    ended = []

    def streams(context: Any) -> Iterator[kinds.Stream]:
        try:
            yield kinds.Stream("a", kinds.Command(("false",)))
        finally:
            ended.append(True)

    monkeypatch.setattr(kinds.kind_of(agent.settings.job("shop")), "streams", streams)
    with pytest.raises(SourceError):
        jobs.run(agent, agent.settings.job("shop"))
    assert ended


# prune


def test_what_the_retention_does_not_keep_is_dropped_manifest_first(make: Make) -> None:
    agent = make(keep=Keep(daily=2, weekly=0, monthly=0))
    made = back_up(agent, 4)
    agent.store.calls.clear()
    assert jobs.prune(agent, agent.settings.jobs) == made[:2]
    deleted = [key.rsplit("/", 2)[-2:] for call, key in agent.store.calls if call == "delete"]
    assert deleted == [[name, file] for name in made[:2] for file in ("manifest.json", "output.zst")]
    assert known(agent)["backups"] == 2
    assert known(agent)["last_prune"]


def test_a_dry_prune_deletes_nothing(make: Make) -> None:
    agent = make(keep=Keep(daily=1, weekly=0, monthly=0))
    made = back_up(agent, 3)
    before = dict(agent.store.objects)
    assert jobs.prune(agent, agent.settings.jobs, dry_run=True) == made[:2]
    assert agent.store.objects == before


def test_a_listing_that_breaks_drops_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(keep=Keep(daily=1, weekly=0, monthly=0))
    back_up(agent, 3)
    real = agent.store.list

    def half(prefix: str, after: str = "") -> Iterator[Any]:
        yield from list(real(prefix, after))[:3]
        raise StoreError("The store went away.")

    monkeypatch.setattr(agent.store, "list", half)
    before = dict(agent.store.objects)
    with pytest.raises(BackupError, match="shop: The store went away"):
        jobs.prune(agent, agent.settings.jobs)
    assert agent.store.objects == before
    assert known(agent)["prune_error"] == "The store went away."


@pytest.mark.parametrize("survives", range(1, 6))
def test_a_prune_that_is_killed_anywhere_is_finished_by_the_next(make: Make, survives: int) -> None:
    agent = make(keep=Keep(daily=1, weekly=0, monthly=0))
    made = back_up(agent, 3)
    for drilled in (made[0], made[2]):
        jobs.drill(agent, agent.settings.job("shop"), drilled)
    agent.clock.pass_time(days=3)
    count = 0

    def die(call: str, key: str) -> None:
        nonlocal count
        count += call == "delete"
        if count == survives:
            raise KeyboardInterrupt

    agent.store.fail = die
    with pytest.raises(KeyboardInterrupt):
        jobs.prune(agent, agent.settings.jobs)
    agent.store.fail = lambda call, key: None
    # What the catalogue shows can be restored, all the time.
    for record in catalogue.catalogue(agent.store):
        if record.complete:
            assert all(check.ok for check in jobs.verify(agent, agent.settings.job("shop"), record.backup))
    jobs.prune(agent, agent.settings.jobs)
    assert [record.backup for record in catalogue.catalogue(agent.store)] == [made[2]]


def test_members_without_a_manifest_are_swept_after_two_days(make: Make) -> None:
    agent = make()
    agent.store.fail = refuse("put", error=StoreError("full"))
    with pytest.raises(StoreError):
        jobs.run(agent, agent.settings.job("shop"))
    agent.store.begin("pre/fix/h1/shop/20260301T020000Z-00000000/output.zst", 1)
    agent.store.fail = lambda call, key: None
    agent.clock.pass_time(hours=47)
    jobs.prune(agent, agent.settings.jobs)
    assert files(agent) == ["output.zst"]
    assert known(agent)["unfinished"] == 1
    agent.clock.pass_time(hours=2)
    jobs.prune(agent, agent.settings.jobs)
    assert not agent.store.objects
    assert not agent.store.uploads


@pytest.mark.parametrize("drilled", [True, False])
def test_a_lost_manifest_does_not_cost_the_members(make: Make, drilled: bool) -> None:
    agent = make()
    back_up(agent, 2)
    if drilled:
        jobs.drill(agent, agent.settings.job("shop"))
    newest = find(agent, agent.settings.job("shop"))
    del agent.store.objects[catalogue.key_of(agent.store, newest, "manifest.json")]
    agent.clock.pass_time(days=10)
    jobs.prune(agent, agent.settings.jobs)
    assert catalogue.key_of(agent.store, newest, "output.zst") in agent.store.objects
    assert any(f"the manifest of {newest.backup} is lost" in line for line in agent.said)
    assert find(agent, agent.settings.job("shop")).backup < newest.backup


def test_what_is_locked_waits(make: Make) -> None:
    agent = make(keep=Keep(daily=1, weekly=0, monthly=0))
    agent.store.settings = agent.store.settings.__class__(**{**vars(agent.store.settings), "lock_days": 3})
    made = back_up(agent, 4)
    assert jobs.prune(agent, agent.settings.jobs) == made[:2]
    assert any(f"{made[2]} waits for its lock until 2026-03-06 02:00 UTC" in line for line in agent.said)


def test_a_key_that_may_not_delete_is_loud(make: Make) -> None:
    agent = make(keep=Keep(daily=1, weekly=0, monthly=0))
    back_up(agent, 2)
    agent.store.fail = refuse("delete")
    with pytest.raises(BackupError, match="shop: delete is not allowed"):
        jobs.prune(agent, agent.settings.jobs)
    assert known(agent)["errors"] == {"denied": 1}
    assert len(files(agent)) == 4


def test_one_job_that_fails_does_not_keep_the_others_from_room(make: Make) -> None:
    agent = make(printing("a", "echo a"), printing("b", "echo b"), keep=Keep(daily=1, weekly=0, monthly=0))
    for job in ("a", "b"):
        back_up(agent, 2, job)
    agent.store.fail = refuse("delete", key="/a/")
    with pytest.raises(BackupError, match="a: delete is not allowed"):
        jobs.prune(agent, agent.settings.jobs)
    assert known(agent, "b")["prune_error"] == ""
    assert known(agent, "b")["backups"] == 1


def test_prune_leaves_the_jobs_of_other_hosts_alone(make: Make) -> None:
    agent = make(keep=Keep(daily=1, weekly=0, monthly=0))
    back_up(agent, 3)
    drill_host = make(Job("shop", "command", host="h9", options={"command": ["true"]}), keep=Keep(daily=1))
    drill_host.store = agent.store
    assert jobs.prune(drill_host, drill_host.settings.jobs) == []


def test_nobody_asks_for_the_drill_of_a_backup_that_was_dropped(make: Make) -> None:
    job = Job("shop", "command", options={"command": ["echo", "x"], "drill_command": ["false"]})
    agent = make(job, keep=Keep(daily=1, weekly=0, monthly=0))
    first = back_up(agent, 2)[0]
    with pytest.raises(BackupError):
        jobs.drill(agent, job, first)
    agent.remember(job, last_drill_attempt=0)
    assert jobs.prune(agent, agent.settings.jobs) == [first]


def test_an_engine_forgets_what_is_dropped(make: Make, engine: list[str]) -> None:
    agent = make(Job("tree", "engine"), keep=Keep(daily=1, weekly=0, monthly=0))
    back_up(agent, 2, "tree")
    assert len(jobs.prune(agent, agent.settings.jobs)) == 1
    assert engine == ["s1"]
    assert files(agent) == ["manifest.json"]


@pytest.mark.parametrize("survives", range(1, 3))
def test_an_engine_forgets_also_when_the_prune_was_killed(make: Make, engine: list[str], survives: int) -> None:
    agent = make(Job("tree", "engine"), keep=Keep(daily=1, weekly=0, monthly=0))
    back_up(agent, 2, "tree")
    agent.clock.pass_time(days=3)
    calls = iter(range(100))

    def die(call: str, key: str) -> None:
        if call == "delete" and next(calls) == survives - 1:
            raise KeyboardInterrupt

    agent.store.fail = die
    with pytest.raises(KeyboardInterrupt):
        jobs.prune(agent, agent.settings.jobs)
    agent.store.fail = lambda call, key: None
    agent.clock.pass_time(days=3)
    jobs.prune(agent, agent.settings.jobs)
    assert engine
    assert files(agent) == ["manifest.json"]


# drill, restore, verify, fetch


def test_a_drill_leaves_its_result_beside_the_backup(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    report = jobs.drill(agent, agent.settings.job("shop"))
    assert report.ok
    record = find(agent, agent.settings.job("shop"))
    result = catalogue.last_drill(agent.store, record)
    assert result
    assert (result["ok"], result["backup"], result["host"]) == (True, record.backup, "h1")
    assert known(agent)["last_good_drill"] == agent.clock().timestamp()
    assert known(agent)["drill_error"] == ""


def test_a_drill_that_fails_is_a_result_too(make: Make) -> None:
    agent = make(printing("shop", "echo x", drill_command=["sh", "-c", "echo empty >&2; exit 1"]))
    jobs.run(agent, agent.settings.job("shop"))
    with pytest.raises(jobs.DrillFailedError, match="empty") as error:
        jobs.drill(agent, agent.settings.job("shop"))
    assert not error.value.report.ok
    result = catalogue.last_drill(agent.store, find(agent, agent.settings.job("shop")))
    assert result
    assert not result["ok"]
    assert "last_good_drill" not in known(agent)
    assert known(agent)["errors"] == {"drill": 1}


def test_a_damaged_member_fails_the_drill_and_the_verification(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    agent.store.replace(agent.store.file("output.zst"), b"other")
    with pytest.raises(jobs.DrillFailedError, match="cut off"):
        jobs.drill(agent, agent.settings.job("shop"))
    [check] = jobs.verify(agent, agent.settings.job("shop"))
    assert not check.ok


def test_a_member_that_is_missing_is_said(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    del agent.store.objects[agent.store.file("output.zst")]
    with pytest.raises(BackupError, match=r"output.zst"):
        jobs.drill(agent, agent.settings.job("shop"))


def test_a_drill_without_room_is_busy_and_loud(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=100, free=8, used=92))
    with pytest.raises(BusyError, match="The drill of shop was skipped: it needs 6 B below"):
        jobs.drill(agent, agent.settings.job("shop"))
    assert "was skipped" in known(agent)["drill_error"]
    assert known(agent)["errors"] == {"busy": 1}


def test_a_drill_host_whose_key_may_only_read(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    agent.store.fail = refuse("put")
    assert jobs.drill(agent, agent.settings.job("shop")).ok
    assert any("known to this host only" in line for line in agent.said)


def test_restore_gives_the_wanted_backup(make: Make, tmp_path: Path) -> None:
    agent = make(printing("shop", "date +%N", restore_command=["sh", "-c", f"cat > {tmp_path}/restored"]))
    first, second = back_up(agent, 2)
    for backup in (first, second):
        jobs.restore(agent, agent.settings.job("shop"), backup, {})
        member = catalogue.manifest(agent.store, find(agent, agent.settings.job("shop"), backup)).members[0]
        assert (tmp_path / "restored").stat().st_size == member.plain_bytes


def test_no_backup_is_made_while_one_is_restored(make: Make) -> None:
    agent = make(printing("shop", "echo x", restore_command=["true"]))
    jobs.run(agent, agent.settings.job("shop"))
    with agent.alone("The backup", agent.settings.job("shop"), "run"), pytest.raises(BusyError):
        jobs.restore(agent, agent.settings.job("shop"), "", {})


def test_a_target_that_the_kind_does_not_know(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    with pytest.raises(SettingsError, match="has no 'database'"):
        jobs.restore(agent, agent.settings.job("shop"), "", {"database": "x"})


def test_a_backup_that_is_not_there_is_said_with_the_newest(make: Make) -> None:
    agent = make()
    made = back_up(agent, 4)
    with pytest.raises(BackupError) as error:
        find(agent, agent.settings.job("shop"), "20200101T000000Z-00000000")
    assert ", ".join(made[:0:-1]) in str(error.value)


def test_verify_without_a_key_compares_what_is_stored(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    assert all(check.ok for check in jobs.verify(agent, agent.settings.job("shop")))
    agent.store.replace(
        agent.store.file("output.zst"), b"x" * len(agent.store.objects[agent.store.file("output.zst")][0])
    )
    [check] = jobs.verify(agent, agent.settings.job("shop"))
    assert "not what was stored" in check.text


def test_fetch_gives_a_whole_file_or_none(make: Make, tmp_path: Path) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    out = tmp_path / "out"
    jobs.fetch(agent, agent.settings.job("shop"), "latest", "output", str(out))
    assert out.read_text() == "hello\n"
    with pytest.raises(SettingsError, match="exists; it is not replaced"):
        jobs.fetch(agent, agent.settings.job("shop"), "latest", "output", str(out))
    agent.store.replace(agent.store.file("output.zst"), b"other")
    with pytest.raises(IntegrityError):
        jobs.fetch(agent, agent.settings.job("shop"), "latest", "output", str(tmp_path / "none"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out"]


# probe


def by_name(checks: list[Check]) -> dict[str, bool]:
    return {check.name: check.ok for check in checks}


def test_a_store_that_does_all_is_probed(make: Make) -> None:
    agent = make()
    assert by_name(jobs.probe(agent)) == dict.fromkeys(["write", "read", "list", "clock", "keep", "delete"], True)
    assert not agent.store.objects


def test_write_only_is_proved(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    pruner = MemoryStore(agent.clock)
    pruner.objects = agent.store.objects
    monkeypatch.setattr(jobs.Agent, "prune_store", property(lambda self: pruner))
    agent.settings = agent.settings.__class__(**{**vars(agent.settings), "prune_store": pruner.settings})
    assert by_name(jobs.probe(agent))["delete"] is False
    agent.store.fail = refuse("delete")
    assert by_name(jobs.probe(agent))["delete"] is True
    assert by_name(jobs.probe(agent))["prune"] is True
    assert not agent.store.objects


def test_a_key_that_cannot_delete_leaves_the_pruning_to_another_host(make: Make) -> None:
    agent = make()
    agent.store.fail = refuse("delete")
    [check] = [check for check in jobs.probe(agent) if check.name == "delete"]
    assert check.ok
    assert "Another host has to prune" in check.text


def test_a_store_that_refuses_all_is_one_line(make: Make) -> None:
    agent = make()
    agent.store.fail = refuse("put", error=StoreError("The secret key is wrong."))
    assert [(check.ok, check.text) for check in jobs.probe(agent)] == [(False, "The secret key is wrong.")]


# what is written is what is read


def test_the_result_of_a_drill_is_json_for_others(make: Make) -> None:
    agent = make()
    jobs.run(agent, agent.settings.job("shop"))
    jobs.drill(agent, agent.settings.job("shop"))
    key = next(key for key in agent.store.objects if "/drill-" in key)
    assert json.loads(agent.store.objects[key][0])["checks"][0]["ok"] is True

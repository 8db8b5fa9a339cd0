"""The backup agent from data: what is refused and in which words, its settings, files, units and timers."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from plugins.module_utils._backup import kinds
from plugins.module_utils._backup.settings import Job, Keep, Notify, Settings, StoreSettings, from_dict
from plugins.plugin_utils import backups

ROOT = Path(__file__).resolve().parents[4]
# Made for these tests.
PUBLIC = "age1lmfzvg532e9h4eaa2dlnj2xrsm9932x28cd8nuyxpc38p9hvd54sr5plj7"
PRIVATE = "AGE-SECRET-KEY-1JDLPDYV4WPZ5PHQ0NTG6AUV5S6GVZMD2JK2SYHL36SCE54M6U3WSRRU387"
OTHER = "AGE-SECRET-KEY-18RH4RSFYYCLMLD66UUETNEH8LY73HWD6LQUSF8D6UZPD56VDHJ4QD7KU9X"
MEDIA = {"name": "media", "kind": "files", "paths": ["/srv/media"]}
BOX = {
    "kind": "sftp",
    "host": "box",
    "user": "u1",
    "path": "backups",
    "key": "secret-key",
    "known_hosts": "box ssh-ed25519 A",
}


def given(**changes: Any) -> dict[str, Any]:
    return {
        "host": "web1",
        "store": {"kind": "local", "path": "/mnt/backups"},
        "prune_store": {},
        "recipients": [PUBLIC],
        "identity": "",
        "jobs": [MEDIA],
        "published_jobs": [],
        "keep": {},
        "notify": {},
        "prune_on_calendar": "daily",
        "random_delay_seconds": 300,
        "drill_memory_mb": 512,
        "metrics_file": "/var/lib/prometheus/node-exporter/bulwark-backup.prom",
        **changes,
    }


def units(**changes: Any) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in backups.backups_units(given(**changes))}


def files(**changes: Any) -> dict[str, dict[str, Any]]:
    return {one["path"]: one for one in backups.backups_files(given(**changes))}


def test_good_input_has_no_problems():
    assert backups.backups_problems(given()) == []
    assert backups.backups_problems(given(identity=PRIVATE, store=BOX, prune_store={**BOX, "user": "u2"})) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"store": {}}, "backups_store is empty"),
        ({"store": {"kind": "ftp"}}, "backups_store.kind is 'ftp'"),
        ({"store": {"kind": "s3", "bucket": "b", "access_key": "a"}}, "backups_store.secret_key is missing"),
        ({"store": {"kind": "local", "path": "backups"}}, "is not an absolute path"),
        ({"store": {"kind": "local", "path": "/x", "mount": True}}, "backups_store has no 'mount'"),
        ({"store": {**BOX, "known_hosts": ""}}, "known_hosts_file is missing"),
        ({"store": {**BOX, "key_file": "/root/key"}}, "has both key and key_file"),
        ({"prune_store": {"kind": "local"}}, "backups_prune_store.path is missing"),
        ({"recipients": []}, "media would be readable by whoever reads the store"),
        ({"recipients": [PRIVATE]}, "entry 1 is a PRIVATE key"),
        ({"recipients": [PUBLIC, "age1short"]}, "entry 2 is not a public key"),
        ({"identity": "AGE-SECRET-KEY-1"}, "backups_identity is not a private key"),
        ({"identity": OTHER}, "for which nothing is encrypted"),
        ({"jobs": [{**MEDIA, "kind": "file"}]}, "'files'"),
        ({"jobs": [{**MEDIA, "path": "/srv"}]}, "has no 'path'"),
        ({"jobs": [{**MEDIA, "paths": "/srv"}]}, "paths must be of type list"),
        ({"jobs": [MEDIA, MEDIA]}, "'media' is there twice"),
        ({"jobs": [{**MEDIA, "name": "my media"}]}, "cannot be part of a unit name"),
        ({"jobs": [{**MEDIA, "on_calendar": "0 2 * * *"}]}, "which systemd does not read"),
        ({"jobs": [{**MEDIA, "host": "web2"}]}, "that needs backups_identity"),
        ({"jobs": [{"kind": "files"}]}, "name is missing"),
        ({"prune_on_calendar": "sometimes"}, "backups_prune_on_calendar is 'sometimes'"),
        ({"host": "web 1"}, "backups_host: 'web 1'"),
        ({"keep": {"dayly": 3}}, "did you mean 'daily'"),
        ({"notify": {"mail": "x"}}, "did you mean 'mail_to'"),
    ],
)
def test_what_cannot_work_is_refused_in_words(changes, words):
    problems = " ".join(backups.backups_problems(given(**changes)))
    assert words in problems
    for secret in (PRIVATE, OTHER, "secret-key"):
        assert secret not in problems


def test_a_public_key_is_found_for_its_private_one():
    assert backups.public_key(PRIVATE) == PUBLIC


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("*-*-* 02:00:00", True),
        ("Sun *-*-* 04:00:00", True),
        ("Sun *-*-1..7 05:00:00", True),
        ("Mon..Fri 3:30", True),
        ("Mon,Thu *-*-* 1:00 Europe/Berlin", True),
        ("*:0/15", True),
        ("daily", True),
        ("at noon", False),
        ("0 2 * * *", False),
        ("*-*-* 02:00:00\nOnBootSec=1", False),
    ],
)
def test_calendars_are_read_as_systemd_reads_them(text, good):
    assert bool(backups.CALENDAR.fullmatch(text)) is good
    if Path("/usr/bin/systemd-analyze").exists() and "\n" not in text:
        done = subprocess.run(["systemd-analyze", "calendar", text], capture_output=True)
        assert (done.returncode == 0) is good


def test_no_option_of_a_kind_hides_a_field_of_all_jobs():
    fields = {field.name for field in dataclasses.fields(Job)}
    for module in kinds.KINDS.values():
        options = importlib.import_module(f"plugins.module_utils._backup.{module}").OPTIONS
        assert not fields & set(options), module


def test_a_job_of_the_user_changes_a_published_one():
    published = [{"name": "system", "kind": "system"}, MEDIA]
    own = [{"name": "media", "on_calendar": "weekly"}, {"name": "notes", "kind": "command", "command": ["cat"]}]
    merged = backups.merged_jobs(given(published_jobs=published, jobs=own))
    assert [one["name"] for one in merged] == ["system", "media", "notes"]
    assert merged[1] == {**MEDIA, "on_calendar": "weekly"}


def test_the_settings_are_what_the_agent_reads():
    entry = files(store=BOX, identity=PRIVATE, keep={"daily": 3}, notify={"mail_to": "ops@example.com"})
    settings = from_dict(Settings, json.loads(entry["/etc/bulwark-backup/settings.json"]["content"]), "settings")
    assert settings.store.key_file == "/etc/bulwark-backup/store.key"
    assert settings.identity_file == "/etc/bulwark-backup/identity"
    assert (settings.keep.daily, settings.notify.mail_to) == (3, "ops@example.com")
    assert settings.jobs[0].options == {"paths": ["/srv/media"]}


def test_secrets_are_secret_and_go_when_they_are_not_given():
    with_them = files(store=BOX, identity=PRIVATE)
    for path in ("settings.json", "identity", "store.key"):
        entry = with_them[f"/etc/bulwark-backup/{path}"]
        assert (entry["secret"], entry["mode"]) == (True, "0600")
    without = files()
    for path in ("identity", "store.key", "prune_store.key"):
        assert without[f"/etc/bulwark-backup/{path}"]["state"] == "absent"


def test_the_agent_is_the_library():
    placed = {Path(path).name for path in files() if path.startswith(f"{backups.AGENT}/")}
    assert placed == {path.name for path in (ROOT / "plugins/module_utils/_backup").glob("*.py")}


def test_the_metrics_lie_where_node_exporter_looks():
    from plugins.plugin_utils.node_exporter import TEXTFILES

    defaults = yaml.safe_load((ROOT / "roles/backups/defaults/main.yml").read_text())
    assert str(Path(defaults["backups_metrics_file"]).parent) == TEXTFILES
    assert files()[TEXTFILES] == {"path": TEXTFILES, "state": "directory"}


def test_a_folder_that_must_be_mounted_is_not_made():
    store = {"kind": "local", "path": "/mnt/backups"}
    assert files(store=store)["/mnt/backups"]["mode"] == "0700"
    assert "/mnt/backups" not in files(store={**store, "mount_required": True})


def test_a_host_without_the_private_key_backs_up_and_does_not_drill():
    names = units()
    assert {"bulwark-backup@media.service", "bulwark-backup@media.timer", "bulwark-backup-prune.timer"} <= set(names)
    assert not [name for name in names if name.startswith("bulwark-drill@")]
    assert units(prune_on_calendar="").keys() == names.keys() - {
        "bulwark-backup-prune.timer",
        "bulwark-backup-prune.service",
    }


def test_a_drill_host_drills_the_jobs_of_others_and_does_not_run_them():
    names = units(identity=PRIVATE, jobs=[{**MEDIA, "host": "web2"}])
    assert "bulwark-drill@media.timer" in names
    assert "bulwark-backup@media.service" not in names


def test_a_drill_is_bounded_and_a_backup_cannot_read_the_private_key():
    names = units(identity=PRIVATE)
    drill = names["bulwark-drill@media.service"]["sections"]["Service"]
    backup = names["bulwark-backup@media.service"]["sections"]["Service"]
    assert drill["Slice"] == "bulwark-drill.slice"
    assert drill["InaccessiblePaths"] is None
    assert backup["InaccessiblePaths"] == "-/etc/bulwark-backup/identity"
    assert names["bulwark-drill.slice"]["sections"]["Slice"]["MemoryMax"] == "512M"


def test_a_timer_that_was_missed_fires_later_and_a_failure_is_told():
    names = units()
    assert names["bulwark-backup@media.timer"]["sections"]["Timer"]["Persistent"] is True
    unit = names["bulwark-backup@media.service"]["sections"]["Unit"]
    assert unit["OnFailure"] == "bulwark-backup-notify@%n.service"


def test_a_job_without_a_calendar_has_no_timer():
    names = units(jobs=[{**MEDIA, "on_calendar": ""}])
    assert "bulwark-backup@media.service" in names
    assert "bulwark-backup@media.timer" not in names


def test_a_command_of_the_user_has_no_sandbox():
    job = {"name": "notes", "kind": "command", "command": ["cat", "/srv/notes"]}
    service = units(jobs=[job])["bulwark-backup@notes.service"]
    assert service["sandbox"] is False
    assert "CapabilityBoundingSet" not in service["sections"]["Service"]


FOUND = [{"path": f"/etc/systemd/system/bulwark-backup@{name}.service"} for name in ("shop.db", "media")]


def test_calls_are_those_that_the_host_has():
    calls = backups.backups_calls(FOUND, "bulwark-backup", [])
    assert [one["name"] for one in calls] == ["bulwark-backup@media.service", "bulwark-backup@shop.db.service"]
    assert backups.backups_calls(FOUND, "bulwark-backup", ["media"]) == [
        {"name": "bulwark-backup@media.service", "state": "started"}
    ]


@pytest.mark.parametrize(
    ("unit", "names", "words"),
    [
        ("bulwark-backup", ["medai"], "did you mean 'media'"),
        ("bulwark-drill", [], "where backups_identity is given"),
    ],
)
def test_calls_that_the_host_lacks_are_refused(unit, names, words):
    with pytest.raises(AnsibleFilterError, match=words):
        backups.backups_calls([] if unit == "bulwark-drill" else FOUND, unit, names)


def test_a_restore_has_the_settings_of_the_host_and_the_key_in_memory():
    entries = backups.backups_restore_files('{"host": "web1"}', PRIVATE)
    assert all(one["path"].startswith("/run/") for one in entries)
    settings = json.loads(entries[-1]["content"])
    assert settings == {"host": "web1", "identity_file": "/run/bulwark-restore/identity"}
    assert [one.get("secret") for one in entries] == [None, True, True]


@pytest.mark.parametrize(
    ("name", "cls", "more"),
    [
        ("backups_store", StoreSettings, set(backups.TEXTS)),
        ("backups_keep", Keep, set()),
        ("backups_notify", Notify, set()),
    ],
)
def test_the_spec_names_what_the_settings_have(name, cls, more):
    spec = yaml.safe_load((ROOT / "roles/backups/meta/argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"][name]["options"]
    assert set(options) - more == {field.name for field in dataclasses.fields(cls)}
    types = {"str": str, "int": int, "bool": bool}
    for field in dataclasses.fields(cls):
        assert field.type == types[options[field.name]["type"]].__name__, field.name


REBUILT = [
    {"name": "media", "kind": "files"},
    {"name": "shop", "kind": "postgres"},
    {"name": "system", "kind": "system"},
]
FOUND_IN_STORE = [
    {"job": "shop", "backup": "20261120T020000Z-00000001"},
    {"job": "shop", "backup": "20261121T020000Z-00000002"},
    {"job": "system", "backup": "20261121T010000Z-00000003"},
    {"job": "old", "backup": "20261101T010000Z-00000004"},
]
BEGUN = 1795230000.0  # 2026-11-21 03:00 UTC


def note():
    return json.loads(backups.backups_rebuild_note(json.dumps(FOUND_IN_STORE), BEGUN))


def test_a_rebuild_notes_the_newest_backup_of_each_job():
    assert note()["backups"]["shop"] == "20261121T020000Z-00000002"
    with pytest.raises(AnsibleFilterError, match="no backup of this host"):
        backups.backups_rebuild_note("[]", BEGUN)


def test_a_rebuild_restores_what_has_a_backup_in_the_order_of_the_kinds():
    steps = backups.backups_rebuild_steps(note(), REBUILT, ["postgres", "files"])
    assert steps == [{"job": "shop", "backup": "20261121T020000Z-00000002", "target": {}}]
    [certificates] = backups.backups_rebuild_steps(note(), REBUILT, ["system"])
    assert certificates["target"] == {"only": "/etc/letsencrypt"}


def test_a_rebuild_reports_the_worst_loss_and_what_was_not_restored():
    result = backups.backups_rebuild_result(note(), REBUILT, ["postgres", "files"], BEGUN + 90)
    assert result["figures"] == {"rpo_seconds": 3600, "rto_seconds": 90}
    text = "\n".join(result["lines"])
    assert "media   none                       everything  was never backed up" in text
    assert "old     20261101T010000Z-00000004  20 d        is no job any more" in text
    assert "certificates restored" in text
    assert result["lines"][-1] == "RPO 60 min, RTO 90 s"


def test_a_rebuild_says_which_kinds_are_left_to_people():
    jobs = [{"name": "shop", "kind": "pgbackrest"}]
    assert any(
        "do it by hand" in line for line in backups.backups_rebuild_result(note(), jobs, ["postgres"], 0)["lines"]
    )

"""Backups behave: timers, jobs, drills, failures that are told, and what the units may not do."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PRIVATE = "AGE-SECRET-KEY-1JDLPDYV4WPZ5PHQ0NTG6AUV5S6GVZMD2JK2SYHL36SCE54M6U3WSRRU387"
TOKEN = "quite-secret"


@pytest.fixture
def backups(run):
    """The backups of a job, oldest first."""

    def _backups(job):
        return json.loads(run(f"bulwark-backup list {job} --json"))

    return _backups


@pytest.fixture
def playbook(host):
    """Runs a runbook on this test host and gives its output."""

    def _playbook(name, ok=True, **variables):
        inventory, limit = os.environ["MOLECULE_INVENTORY_FILE"], host.backend.get_hostname()
        words = ["-i", inventory, "-l", limit, "-e", json.dumps(variables), str(name)]
        done = subprocess.run(["ansible-playbook", *words], capture_output=True, text=True, timeout=300)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    return _playbook


@pytest.fixture
def one_of_them(host):
    """For tests that are about the controller, and slow: a host each, all of them on both with BULWARK_FULL=1."""

    def _one_of_them(which):
        if which not in host.backend.get_hostname() and not os.environ.get("BULWARK_FULL"):
            pytest.skip(f"on {which} only")

    return _one_of_them


def wait(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)


def test_timers_are_scheduled(run):
    lines = run("systemctl list-timers --all --no-legend --no-pager 'bulwark-*'").splitlines()
    wanted = {"bulwark-backup@media.timer", "bulwark-drill@media.timer", "bulwark-backup-prune.timer"}
    assert {word for line in lines for word in line.split() if word.endswith(".timer")} == wanted
    assert not [line for line in lines if line.startswith(("-", "n/a"))]


def test_a_job_runs_and_what_it_made_is_proved(run, backups):
    run("systemctl start bulwark-backup@media bulwark-backup@notes")
    assert backups("media")[-1]["complete"]
    run("systemctl start bulwark-drill@media")
    assert len(backups("media")[-1]["drills"]) == 1
    assert "contents of 2 files are equal" in run("journalctl -u bulwark-drill@media -o cat --no-pager")
    metrics = run("cat /var/lib/prometheus/node-exporter/bulwark-backup.prom")
    assert 'bulwark_backup_last_drill_success{backup_job="media"' in metrics
    run("su -s /bin/cat nobody /var/lib/prometheus/node-exporter/bulwark-backup.prom")


def test_old_backups_go_but_not_the_newest_and_not_the_proved_one(run, backups):
    run("systemctl start bulwark-backup@media; systemctl start bulwark-backup@media")
    proved, between, newest = [one["backup"] for one in backups("media")[-3:]]
    run("systemctl start bulwark-backup-prune")
    left = [one["backup"] for one in backups("media")]
    assert {proved, newest} <= set(left)
    assert between not in left


def test_a_timer_that_was_missed_fires_at_once(run, backups):
    before = len(backups("media"))
    stamp = "/var/lib/systemd/timers/stamp-bulwark-backup@media.timer"
    run(f"systemctl stop bulwark-backup@media.timer; touch -d '3 days ago' {stamp}")
    run("systemctl start bulwark-backup@media.timer")
    wait(lambda: len(backups("media")) > before)


def test_a_failure_is_told(run):
    run(
        "systemd-run -q --unit=hook --collect python3 -c '"
        "from http.server import *\n"
        "class H(BaseHTTPRequestHandler):\n"
        "  def do_POST(self):\n"
        '    open("/run/hook.json", "wb").write(self.rfile.read(int(self.headers["Content-Length"])))\n'
        "    self.send_response(204); self.end_headers()\n"
        'HTTPServer(("127.0.0.1", 8765), H).serve_forever()\''
    )
    run("until ss -Hltn sport = :8765 | grep -q .; do sleep 0.2; done; ! systemctl start bulwark-backup@broken")
    wait(lambda: run("cat /run/hook.json 2>/dev/null || true"))
    told = json.loads(run("cat /run/hook.json; systemctl stop hook"))
    assert told["job"] == "broken"
    assert "false failed (exit status 1)" in json.dumps(told)
    assert "false failed" in run("bulwark-backup status; true")


def test_no_secret_is_in_the_journal_or_in_the_processes(run):
    text = run("journalctl --no-pager -o cat -u 'bulwark-*'; ps axww -o args; systemctl show 'bulwark-*'")
    assert PRIVATE not in text
    assert TOKEN not in text


def test_only_root_reads_the_settings(run):
    assert run("stat -c %a /etc/bulwark-backup /etc/bulwark-backup/settings.json").split() == ["700", "600"]
    assert run("stat -c %a /etc/bulwark-backup/identity").strip() == "600"


def test_the_private_key_is_not_in_a_backup_of_the_system(run):
    run("systemctl start bulwark-backup@system && systemctl start bulwark-drill@system")
    files = "bulwark-backup fetch system --member files.tar --output -"
    assert "backups" in run(f"{files} | tar -xO etc/hostname")
    assert run(f"{files} | tar -xO etc/bulwark-backup/identity") == ""


@pytest.mark.parametrize("name", ["bulwark-backup@media", "bulwark-drill@media", "bulwark-backup-prune"])
def test_sandbox(exposure, name):
    assert exposure(f"{name}.service") <= 3.0


def test_a_backup_is_denied_what_it_must_not_do(run):
    """In the unit's own sandbox: it reads everything but the private key, and writes nothing that it saves."""
    tries = {
        "reads": "cat /srv/media/greeting /etc/shadow",
        "key": "! grep -q SECRET /etc/bulwark-backup/identity",
        "etc": "! touch /etc/owned",
        "media": "! touch /srv/media/owned",
        "home": "! touch /root/owned",
        "mount": "! mount -t tmpfs none /mnt",
        "clock": "! date -s tomorrow",
        "state": "touch /var/lib/bulwark-backup/mine && rm /var/lib/bulwark-backup/mine",
    }
    for number, (name, command) in enumerate(tries.items()):
        folder = "/run/systemd/system/bulwark-backup@media.service.d"
        text = f"[Service]\\nExecStart=\\nExecStart=/bin/sh -c '{command}'\\n"
        run(f'mkdir -p {folder}; printf "{text}" > {folder}/try.conf; systemctl daemon-reload')
        state = run("systemctl start bulwark-backup@media; systemctl show -p Result --value bulwark-backup@media")
        run(f"rm -r {folder}; systemctl daemon-reload; systemctl reset-failed bulwark-backup@media || true")
        assert state.strip() == "success", f"{number} {name}: {command}"


def test_the_drill_has_its_slice(run):
    assert run("systemctl show -p Slice --value bulwark-drill@media").strip() == "bulwark-drill.slice"
    assert int(run("systemctl show -p MemoryMax --value bulwark-drill.slice")) >= 256 * 2**20


def test_runbooks(playbook, backups, one_of_them):
    one_of_them("debian12")
    before = len(backups("notes"))
    output = playbook(ROOT / "playbooks/backup_now.yml", backups_selected_jobs=["notes", "media"])
    assert len(backups("notes")) == before + 1
    assert "changed=1" in output
    playbook(ROOT / "playbooks/restore_drill.yml", backups_selected_jobs=["notes"])
    assert backups("notes")[-1]["drills"]
    assert backups("notes")[-1]["backup"] in playbook(ROOT / "playbooks/list_backups.yml", backups_list_job="notes")
    output = playbook(ROOT / "playbooks/backup_now.yml", ok=False, backups_selected_jobs=["broken"])
    assert "false failed (exit status 1)" in output


def test_a_restore_says_what_it_would_replace_and_needs_the_word(run, playbook, one_of_them):
    one_of_them("debian13")
    run("echo spoilt > /srv/media/greeting")
    play = ROOT / "playbooks/restore_files.yml"
    output = playbook(play, ok=False, backups_restore_job="media")
    assert "backups_restore_confirmed=yes" in output
    assert "changed=0" in output
    assert run("cat /srv/media/greeting") == "spoilt\n"
    # The host has no key now; the one of the call is gone afterwards.
    run("mv /etc/bulwark-backup/identity /root/identity")
    output = playbook(play, backups_restore_job="media", backups_restore_confirmed="yes")
    run("mv /root/identity /etc/bulwark-backup/identity; test ! -e /run/bulwark-restore")
    assert run("cat /srv/media/greeting") == "hello\n"
    assert run("cat /srv/media.before-*/greeting") == "spoilt\n"
    assert PRIVATE not in output
    run("rm -r /srv/media.before-*")


def test_backups_that_nobody_could_read_are_refused(converge, one_of_them):
    one_of_them("debian12")
    output = " ".join(converge(backups_recipients=[PRIVATE], ok=False).split())
    assert "entry 1 is a PRIVATE key" in output
    assert PRIVATE not in output
    assert "changed=0" in output


def test_what_is_not_declared_goes_and_no_secret_is_shown(run, converge, one_of_them):
    one_of_them("debian13")
    run("touch /usr/local/lib/bulwark-backup/bulwark_backup/stale.py")
    jobs = [{"name": "photos", "kind": "files", "paths": ["/srv/media"]}]
    output = converge("-vvv", "--diff", backups_jobs=jobs, backups_identity="")
    output = output[output.index("PLAY [") :]
    assert PRIVATE not in output
    assert TOKEN not in output
    assert run("cd /etc/systemd/system; ls -d bulwark-backup@* bulwark-drill@* 2>/dev/null || true").split() == [
        "bulwark-backup@photos.service",
        "bulwark-backup@photos.timer",
    ]
    run("test ! -e /etc/bulwark-backup/identity; test ! -e /usr/local/lib/bulwark-backup/bulwark_backup/stale.py")

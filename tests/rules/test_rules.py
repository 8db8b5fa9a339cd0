"""The alerts that the collection ships, and the metrics that they look at, by Prometheus' own tool in a container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from hosts import hosts

from plugins.module_utils._backup import metrics
from plugins.module_utils._backup.settings import Job, Settings, StoreSettings

IMAGE = "bulwark-promtool"
RECIPE = """\
FROM bulwark-host:debian13
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends prometheus \\
 && rm -rf /var/lib/apt/lists/*
"""
FILES = sorted(ROOT.glob("roles/*/files/*.rules.yml"))
RULES = [
    pytest.param(file, rule, id=rule["alert"])
    for file in FILES
    for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]


def cases_of(file: Path) -> Path:
    return Path(__file__).with_name(file.name.replace(".rules.", ".test."))


@pytest.fixture(scope="session")
def promtool():
    """Runs promtool in this folder and gives what it printed; fails with that."""
    if not hosts.docker("images", "-q", IMAGE):
        hosts.docker("build", "-q", "-t", IMAGE, "-", text_in=RECIPE)

    def run(*words: str, text_in: str = "") -> str:
        options = ["--rm", "-i", "--network", "none", "-v", f"{ROOT}:/repo:ro", "-w", "/repo/tests/rules"]
        command = ["docker", "run", *options, IMAGE, "promtool", *words]
        done = subprocess.run(command, input=text_in, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_rules_are_valid(promtool, file):
    promtool("check", "rules", "--lint=all", "--lint-fatal", f"/repo/{file.relative_to(ROOT)}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_alerts_fire_when_they_should_and_not_before(promtool, file):
    promtool("test", "rules", cases_of(file).name)


@pytest.mark.parametrize(("file", "rule"), RULES)
def test_every_alert_has_a_case(file, rule):
    assert f'{{alertname="{rule["alert"]}"' in cases_of(file).read_text(encoding="utf-8")


@pytest.mark.parametrize(("file", "rule"), RULES)
def test_every_alert_says_whom_it_hits_and_what_to_do(file, rule):
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert "{{ $labels." in rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 60


def test_the_metrics_of_backups_can_be_read(promtool):
    """Of a job of which all is known, and of one that never ran."""
    state = {
        **dict.fromkeys(
            ("since", "last_attempt", "last_success", "last_drill_attempt", "last_good_drill"), 1_795_000_000.25
        ),
        **dict.fromkeys(("seconds", "plain_bytes", "stored_bytes", "drill_seconds", "backups", "backup_bytes"), 12),
        **dict.fromkeys(("last_prune_attempt", "unfinished", "clock_skew_seconds"), -0.5),
        **dict.fromkeys(("error", "drill_error", "prune_error"), "broken"),
        "tier_bytes": {"daily": 5},
        "errors": {"denied": 2},
    }
    jobs = (Job("shop", "postgres"), Job('an "odd" \\ name', "files"), Job("crm", "redis", host="db2"))
    text = metrics.lines(Settings("web1", StoreSettings("s3"), jobs=jobs), {"shop": state}, 1_795_000_000.5)
    assert text.count("# TYPE") == len(metrics.METRICS) + 1
    promtool("check", "metrics", text_in=text)

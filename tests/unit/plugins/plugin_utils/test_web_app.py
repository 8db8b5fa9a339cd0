"""The application's files, units and site from data, and the input that is refused."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.plugin_utils.systemd_unit import systemd_units
from plugins.plugin_utils.web_app import (
    command_line,
    web_app_environment,
    web_app_files,
    web_app_problems,
    web_app_sites,
    web_app_trial_units,
    web_app_unit_lines,
    web_app_units,
    web_app_workers,
)


def app(**values: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "directory": "/src/shop",
        "repository": "",
        "repository_key": "",
        "revision": "HEAD",
        "wheel": "",
        "python": "/usr/bin/python3",
        "releases_kept": 5,
        "environment": {},
        "migration_command": "",
        "migration_timeout_seconds": 3600,
        "serve": True,
        "server": "uvicorn",
        "module": "app.main:app",
        "memory_mb": 1024,
        "cpu_weight": 100,
        "workers": 2,
        "server_options": [],
        "command": "",
        "stop_timeout_seconds": 30,
        "health_path": "/health",
        "cleanup_policies": [],
        **values,
    }


def paths(**values: Any) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in web_app_files(app(**values), "13")}


def service(**values: Any) -> dict[str, Any]:
    return web_app_units(app(**values))[1]["sections"]["Service"]


def test_reference_deployment_has_two_workers():
    assert web_app_workers(1024, 1.0) == 2


@pytest.mark.parametrize(("memory", "cpus", "workers"), [(56, 0.12, 1), (600, 4, 1), (8192, 1, 2), (8192, 3.75, 8)])
def test_workers_fit_memory_and_processors(memory, cpus, workers):
    assert web_app_workers(memory, cpus) == workers


def test_complete_input_is_accepted():
    assert web_app_problems(app(cleanup_policies=[{"path": "/srv/shop/shared/media", "age_days": 7}])) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"directory": ""}, "There is nothing to deploy"),
        ({"wheel": "/a.whl"}, "web_app_directory and web_app_wheel are both given"),
        ({"directory": "", "repository": "https://me:secret@git.test/shop"}, "would be in the process list"),
        ({"directory": "", "wheel": "https://x.test/shop.whl"}, "an address needs its checksum"),
        ({"directory": "", "repository": "git@git.test:shop", "revision": "abc1234"}, "all 40 characters"),
        ({"name": "nginx"}, "'nginx' names a user"),
        ({"name": "My App"}, "'My App' names a user"),
        ({"module": "app.main"}, "must be module:object"),
        ({"health_path": "health"}, "must start with a slash"),
        ({"python": "python3"}, "must be an absolute path"),
        ({"releases_kept": 1}, "must be 2 or more"),
        ({"workers": 0}, "must be 1 or more"),
        ({"command": "a\nb"}, "must be single lines"),
        ({"environment": {"A-B": "1"}}, "'A-B' cannot be the name"),
        ({"environment": {"A": None}}, "the value of A must be text"),
        ({"cleanup_policies": [{"path": "/etc/ssl", "age_days": 7}]}, "holds what the system needs"),
        ({"cleanup_policies": [{"path": "/srv/shop", "age_days": 7}]}, "holds what the system needs"),
        ({"cleanup_policies": [{"path": "/srv/shop/releases/x", "age_days": 7}]}, "web_app_releases_kept"),
        ({"cleanup_policies": [{"path": "/srv/../etc", "age_days": 7}]}, "must be an absolute path"),
        ({"cleanup_policies": [{"path": "/data", "age_days": 7}]}, "two parts or more"),
        ({"cleanup_policies": [{"path": "/data/x", "age_days": 0}]}, "must be 1 or more"),
    ],
)
def test_bad_input_is_one_sentence(values, sentence):
    problems = web_app_problems(app(**values))
    assert len(problems) == 1
    assert sentence in problems[0]


def test_secrets_are_in_no_sentence():
    environment = {"A-B": "hush-hush", "C": ["hush-hush"]}
    problems = web_app_problems(
        app(environment=environment, directory="", repository="https://me:hush-hush@git.test/x")
    )
    assert len(problems) == 3
    assert "hush-hush" not in " ".join(problems)


def test_environment_is_quoted_for_systemd():
    text = web_app_environment({"A": 'a"b$c\\d`e', "B": True, "C": 5})
    assert text.splitlines()[1:] == ['A="a\\"b\\$c\\\\d\\`e"', 'B="true"', 'C="5"']


def test_secret_files():
    files = paths(environment={"A": "b"}, repository_key="KEY")
    assert (files["/etc/shop/environment"]["secret"], files["/etc/shop/environment"]["mode"]) == (True, "0640")
    assert (files["/etc/shop/repository_key"]["secret"], files["/etc/shop/repository_key"]["mode"]) == (True, "0600")


def test_clean_up():
    policies = [
        {"path": "/srv/shop/shared/media", "age_days": 7},
        {"path": "/var/log/shop", "age_days": 30, "rotate": True},
    ]
    files = paths(cleanup_policies=policies)
    assert "e /srv/shop/shared/media - - - mM:7d\n" in files["/etc/tmpfiles.d/shop.conf"]["content"]
    assert files["/etc/logrotate.d/shop"]["content"].count("/var/log/shop/*.log {") == 1
    assert paths()["/etc/logrotate.d/shop"]["state"] == "absent"


def test_old_systemd_cannot_tell_times_apart():
    files = web_app_files(app(cleanup_policies=[{"path": "/var/tmp/shop", "age_days": 7}]), "22.04")
    assert any("- - - 7d" in entry.get("content", "") for entry in files)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("alembic upgrade head", "/b/.venv/bin/alembic upgrade head"),
        ("./manage.py migrate", "/b/./manage.py migrate"),
        ("/usr/bin/true", "/usr/bin/true"),
        ("python -m x --at 5% $SECRET", "/b/.venv/bin/python -m x --at 5%% $$SECRET"),
    ],
)
def test_commands(command, line):
    assert command_line(command, "/b") == line


def test_service_stops_later_than_its_requests():
    unit = service(stop_timeout_seconds=40)
    assert "--timeout-graceful-shutdown 40" in unit["ExecStart"]
    assert unit["TimeoutStopSec"] > 40


def test_gunicorn_tells_when_it_is_ready():
    unit = service(server="gunicorn")
    assert unit["Type"] == "notify"
    assert unit["ExecStart"].startswith("/srv/shop/current/.venv/bin/gunicorn app.main:app --workers 2")
    assert service(server="gunicorn", command="hypercorn x:y")["Type"] == "exec"


def test_candidate_differs_in_its_place_alone():
    web = web_app_units(app())[1]["sections"]["Service"]
    candidate = web_app_trial_units(app())[1]["sections"]["Service"]
    for key in set(web) - {"Restart", "RestartSec"}:
        assert str(candidate[key]) == str(web[key]).replace("/current", "/candidate"), key


def test_lines_of_the_unit_are_as_it_is_written():
    text = systemd_units(web_app_units(app()), {})[1]["content"].splitlines()
    lines = web_app_unit_lines(app())
    assert len(lines) > 10
    assert set(lines) <= set(text)
    assert web_app_unit_lines(app(serve=False)) == []


def test_host_without_service():
    assert {unit["state"] for unit in web_app_units(app(serve=False))} == {"absent"}
    names = [unit["name"] for unit in web_app_trial_units(app(serve=False, migration_command="x"))]
    assert names == ["shop-migrate.service"]


def test_site():
    site = web_app_sites("shop", ["shop.test"], 2048)[0]
    assert site["locations"][0]["proxy"] == "http://unix:/run/shop/web.sock"
    assert site["locations"][1] == {"path": "/media/", "static": "/srv/shop/shared/media/"}
    assert web_app_sites("shop", [], 2048) == []

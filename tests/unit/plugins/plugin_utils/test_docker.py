"""The engine's configuration, packages and units from data."""

from __future__ import annotations

import json

import pytest

from plugins.plugin_utils import docker

OPTIONS = {
    "source": "distro",
    "version": "",
    "bind_address": "127.0.0.1",
    "log_max_size_mb": 10,
    "log_files": 5,
    "address_pools": [{"base": "172.28.0.0/14", "size": 24}],
    "metrics_address": "",
    "settings": {},
}


def problems(packages=None, **options):
    return " ".join(docker.docker_problems({**OPTIONS, **options}, packages or {}))


def test_no_problem_with_the_defaults():
    assert problems() == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": "28"}, "write it like 28.5.1"),
        ({"version": "28.5.1-1~debian"}, "write it like 28.5.1"),
        ({"bind_address": "localhost"}, "'localhost' is not an IP address"),
        ({"metrics_address": "9323"}, "write it like 127.0.0.1:9323"),
        ({"metrics_address": "127.0.0.1"}, "write it like 127.0.0.1:9323"),
        ({"address_pools": [{"base": "172.28.0.0/14", "size": 8}]}, "size 8 does not fit"),
        ({"address_pools": [{"base": "172.28.0.1/14", "size": 24}]}, "needs a base such as"),
        ({"address_pools": [{"base": "172.28.0.0/14"}]}, "needs a base such as"),
        ({"settings": {"hosts": ["tcp://0.0.0.0:2375"]}}, "'hosts' is on the engine's command line"),
        ({"settings": {"log-drvier": "local"}}, "Did you mean 'log-driver'?"),
    ],
)
def test_problem(options, said):
    assert said in problems(**options)


def test_other_source_is_refused_where_an_engine_is():
    assert "set docker_source: upstream" in problems({"docker-ce": "5:28.5.1-1~debian.12~bookworm"})
    assert "remove docker.io yourself" in problems({"docker.io": "26.1.5+dfsg1-9"}, source="upstream")
    assert problems({"docker.io": "26.1.5+dfsg1-9"}) == ""


@pytest.mark.parametrize(
    ("packages", "version"),
    [
        ({}, ""),
        ({"docker.io": "20.10.24+dfsg1-1+deb12u1+b6"}, "20.10.24"),
        ({"docker.io": "28.2.2-0ubuntu1~24.04.1"}, "28.2.2"),
        ({"docker-ce": "5:28.5.1-1~debian.13~trixie"}, "28.5.1"),
    ],
)
def test_engine_version(packages, version):
    assert docker.docker_engine_version(packages) == version


def test_settings_are_what_the_issue_asks_for():
    settings = docker.docker_settings(OPTIONS)
    assert settings["log-driver"] == "local"
    assert settings["log-opts"] == {"max-size": "10m", "max-file": "5"}
    assert settings["live-restore"] is settings["no-new-privileges"] is True
    assert settings["userland-proxy"] is False
    assert settings["ip"] == "127.0.0.1"
    assert "metrics-addr" not in settings


def test_own_settings_win_and_null_removes():
    settings = docker.docker_settings({**OPTIONS, "settings": {"log-driver": "journald", "log-opts": None}})
    assert settings["log-driver"] == "journald"
    assert "log-opts" not in settings


def test_old_engine_is_spared_what_it_does_not_know():
    settings = docker.docker_settings({**OPTIONS, "settings": {"chocolate": 1}})
    for engine, missing in (
        ("20.10.24", {"default-network-opts", "chocolate"}),
        ("23.0.6", {"default-network-opts"}),
        ("26.1.5", set()),
        ("", set()),
    ):
        assert set(settings) - set(docker.docker_supported(settings, engine)) == missing
        assert len(docker.docker_left_out(settings, engine)) == len(missing)
    assert "127.0.0.1:8080:80" in " ".join(docker.docker_left_out(settings, "20.10.24"))


def test_all_our_settings_but_one_suit_the_engine_of_debian_12():
    settings = docker.docker_settings({**OPTIONS, "metrics_address": "127.0.0.1:9323"})
    assert set(settings) - docker.OLD_NAMES == {"default-network-opts"}


def files(settings, installed="26.1.5"):
    return {entry["path"]: entry for entry in docker.docker_files(settings, installed)}


def test_only_what_needs_a_restart_moves_the_mark():
    settings = docker.docker_settings(OPTIONS)
    before = files(settings)
    reloadable = files({**settings, "labels": ["a=b"], "live-restore": False})
    fixed = files({**settings, "mtu": 1400})
    assert reloadable[docker.CONFIG] != before[docker.CONFIG]
    assert reloadable[docker.RESTART_MARK] == before[docker.RESTART_MARK]
    assert fixed[docker.RESTART_MARK] != before[docker.RESTART_MARK]
    assert list(before).index(docker.CONFIG) < list(before).index(docker.RESTART_MARK)
    assert json.loads(before[docker.CONFIG]["content"]) == settings


def test_engine_checks_its_configuration_where_it_can():
    assert "validate" in files({}, "26.1.5")[docker.CONFIG]
    assert "validate" not in files({}, "20.10.24")[docker.CONFIG]
    assert "validate" not in files({}, "")[docker.CONFIG]


def test_pin_asks_only_for_what_is_not_there():
    options = {**OPTIONS, "version": "26.1.5"}
    names = ["docker.io", "docker-cli", "docker-compose"]
    assert docker.docker_packages(names, OPTIONS, {}) == names
    assert docker.docker_packages(names, options, {}) == ["docker.io=26.1.5*", "docker-cli=26.1.5*", "docker-compose"]
    there = {"docker.io": "26.1.5+dfsg1-9", "docker-cli": "26.1.50-1"}
    assert docker.docker_packages(names, options, there)[:2] == ["docker.io", "docker-cli=26.1.5*"]
    upstream = {**options, "source": "upstream"}
    assert docker.docker_packages(["docker-ce"], upstream, {}) == ["docker-ce=5:26.1.5-*"]
    assert docker.docker_packages(["docker-ce"], upstream, {"docker-ce": "5:26.1.5-1~debian.13~trixie"}) == [
        "docker-ce"
    ]


def test_hold_touches_only_what_differs():
    names = ["docker.io", "docker-cli", "docker-compose", "apparmor"]
    held = ["containerd", "docker-cli", "docker.io", "runc"]
    assert [one["name"] for one in docker.docker_selections(names, True, [])] == held
    assert docker.docker_selections(names, True, held) == []
    moved = docker.docker_selections(["docker.io=26.1.5*", "docker-cli"], True, held)
    assert moved == [{"name": "docker.io", "selection": "hold"}]
    assert docker.docker_selections(names, False, ["runc", "vim"]) == [{"name": "runc", "selection": "install"}]
    upstream = docker.docker_selections(["docker-ce", "docker-ce-cli", "containerd.io", "apparmor"], True, [])
    assert [one["name"] for one in upstream] == ["containerd.io", "docker-ce", "docker-ce-cli"]


def test_rules_are_published_for_the_engine_alone():
    assert docker.docker_firewall_rules("") == []
    assert docker.docker_firewall_rules("127.0.0.1:9323") == [{"port": 9323, "from": [], "name": "docker metrics"}]
    assert docker.docker_firewall_rules("[::1]:9323")[0]["port"] == 9323


def test_reload_comes_before_the_restart():
    first, second, service, timer = docker.docker_units("weekly", 7, False)
    assert "reload_on" in first
    assert "restart_on" not in first
    assert second == {"name": "docker.service", "restart_on": [docker.RESTART_MARK]}
    assert "until=168h" in service["sections"]["Service"]["ExecStart"][0]
    assert "--all" not in service["sections"]["Service"]["ExecStart"][0]
    assert timer["sections"]["Timer"]["OnCalendar"] == "weekly"


def test_no_calendar_no_timer():
    assert [unit["state"] for unit in docker.docker_units("", 7, False)[2:]] == ["absent", "absent"]
    assert "--all" in docker.docker_units("daily", 1, True)[2]["sections"]["Service"]["ExecStart"][0]

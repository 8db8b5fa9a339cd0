"""The exporter's files and units from data, and the producer of our own metrics."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from plugins.plugin_utils import node_exporter

HASH = "$2b$10$abcdefghijklmnopqrstuu5fJaDSmr3FmW8BkbXUdf6KLQBilkzqS"
OPTIONS = {
    "binary": "/usr/bin/prometheus-node-exporter",
    "version": "1.9",
    "addresses": ["127.0.0.1"],
    "port": 9100,
    "users": [],
    "tls_certificate": "",
    "tls_key": "",
    "flags": [],
    "certificate_paths": [],
    "textfile_oncalendar": "*:0/5",
}
PROTECTED = {
    "users": [{"name": "prometheus", "password_hash": HASH}],
    "tls_certificate": "/etc/ssl/a.crt",
    "tls_key": "/etc/ssl/a.key",
}


def problems(**options):
    return " ".join(node_exporter.node_exporter_problems({**OPTIONS, **options}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"addresses": ["127.0.0.1", "::1", "10.0.0.4"]},
        {"addresses": ["0.0.0.0"], **PROTECTED},
        {"addresses": ["8.8.8.8"], **PROTECTED},
    ],
)
def test_no_problem(options):
    assert problems(**options) == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"addresses": []}, "give at least one address"),
        ({"addresses": ["localhost"]}, "'localhost' is not an IP address"),
        ({"addresses": ["127.0.0.1", "10.0.0.4"], "version": "1.3"}, "one address only"),
        ({"addresses": ["0.0.0.0"]}, "0.0.0.0 can be reached from outside"),
        ({"addresses": ["::"]}, ":: can be reached from outside"),
        ({"addresses": ["8.8.8.8"], "users": PROTECTED["users"]}, "node_exporter_tls_certificate"),
        ({"users": [{"name": "prometheus", "password_hash": "secret"}]}, "htpasswd -nBC 10 prometheus"),
        ({"users": PROTECTED["users"] * 2}, "'prometheus' is there twice"),
        ({"tls_certificate": "/etc/ssl/a.crt"}, "belong together"),
        ({"tls_certificate": "a.crt", "tls_key": "/a key"}, "is not an absolute path"),
        ({"certificate_paths": ["a.crt"]}, "'a.crt' is not an absolute path"),
    ],
)
def test_problem(options, said):
    assert said in problems(**options)


def test_rules_let_nobody_in_where_only_loopback_listens():
    rules = node_exporter.node_exporter_firewall_rules
    assert rules(9100, ["127.0.0.1", "::1"], ["10.0.0.5"]) == [{"port": 9100, "from": [], "name": "node exporter"}]
    assert rules(9100, ["127.0.0.1", "10.0.0.4"], ["10.0.0.5"])[0]["from"] == ["10.0.0.5"]


def test_web_config_is_secret_and_goes_when_nothing_needs_it():
    files = {entry["path"]: entry for entry in node_exporter.node_exporter_files({**OPTIONS, **PROTECTED})}
    web = files[node_exporter.WEB_CONFIG]
    assert web["secret"] is True
    assert web["mode"] == "0640"
    assert json.loads(web["content"])["basic_auth_users"] == {"prometheus": HASH}
    files = {entry["path"]: entry for entry in node_exporter.node_exporter_files(OPTIONS)}
    assert files[node_exporter.WEB_CONFIG]["state"] == "absent"


@pytest.mark.parametrize(("version", "flag"), [("1.3", "--web.config="), ("1.5", "--web.config.file=")])
def test_flag_of_the_web_config_by_version(version, flag):
    assert flag in node_exporter.exporter_command({**OPTIONS, **PROTECTED, "version": version})


def test_command_names_every_address():
    command = node_exporter.exporter_command(
        {**OPTIONS, "addresses": ["127.0.0.1", "fd00::1"], "flags": ["--log.level=warn"]}
    )
    assert "--web.listen-address=127.0.0.1:9100 --web.listen-address=[fd00::1]:9100" in command
    assert command.endswith(" --log.level=warn")
    assert "web.config" not in command


def test_key_that_only_root_reads_is_copied_and_watched():
    unit = node_exporter.node_exporter_units({**OPTIONS, **PROTECTED})[0]
    assert unit["sections"]["Service"]["ExecStartPre"][1] == (
        "+/usr/bin/install -m 0444 /etc/ssl/a.key /run/node_exporter/tls.key"
    )
    assert unit["restart_on"] == [node_exporter.WEB_CONFIG, "/etc/ssl/a.crt", "/etc/ssl/a.key"]
    assert node_exporter.node_exporter_units(OPTIONS)[0]["sections"]["Service"]["ExecStartPre"] == []


@pytest.fixture(scope="module")
def producer():
    path = Path(__file__).parents[4] / "roles/node_exporter/files/node-exporter-textfile"
    loader = importlib.machinery.SourceFileLoader("node_exporter_textfile", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


SIMULATION = """NOTE: This is only a simulation!
Inst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64])
Inst tzdata [2024a-0+deb12u1] (2025b-0+deb12u1 Debian:12.11/oldstable [all])
Inst openssl [3.0.2-0ubuntu1.18] (3.0.2-0ubuntu1.19 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64])
Inst linux-image-6.1.0-37-amd64 (6.1.140-1 Debian-Security:12/stable-security [amd64])
Conf libc6 (2.36-9+deb12u10 Debian-Security:12/stable-security [amd64])
"""


def test_upgrades_are_counted_by_origin(producer):
    assert producer.count_upgrades(SIMULATION) == (2, 1)
    assert producer.count_upgrades("") == (0, 0)


@pytest.mark.parametrize(
    ("running", "installed", "newest"),
    [
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-10-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], "6.1.0-10-amd64"),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64", "6.1.0-10-cloud-amd64"], "6.1.0-9-amd64"),
        ("6.12.43+deb13-amd64", ["6.12.43+deb13-amd64", "6.12.48+deb13-amd64"], "6.12.48+deb13-amd64"),
        ("6.8.0-45-generic", ["6.8.0-45-generic", "6.8.0-100-generic"], "6.8.0-100-generic"),
        ("6.18.44-custom", [], "6.18.44-custom"),
    ],
)
def test_newest_kernel(producer, running, installed, newest):
    assert producer.newest_kernel(running, installed) == newest


def test_text_is_escaped_and_empty_metrics_are_left_out(producer):
    text = producer.text_of("a", "Help.", [({"path": 'x"\\\n'}, 1795182826.25)])
    assert text == '# HELP a Help.\n# TYPE a gauge\na{path="x\\"\\\\\\n"} 1795182826.25\n'
    assert producer.text_of("a", "Help.", []) == ""


def test_group_that_fails_leaves_the_others(producer, monkeypatch, capsys):
    def broken():
        raise subprocess.CalledProcessError(100, "apt-get", stderr="E: broken")
        yield

    monkeypatch.setattr(producer, "apt", broken)
    monkeypatch.setattr(producer, "units", lambda: iter([("u", "Units.", [({}, 3)])]))
    text = producer.collect([])
    assert 'node_textfile_producer_success{group="apt"} 0' in text
    assert 'node_textfile_producer_success{group="units"} 1' in text
    assert "\nu 3\n" in text
    assert "E: broken" in capsys.readouterr().err


def test_output_is_replaced_in_one_step(producer, monkeypatch, tmp_path):
    monkeypatch.setattr(producer, "collect", lambda patterns: f"{patterns}\n")
    config = tmp_path / "config.json"
    config.write_text('{"certificate_paths": ["/a"]}')
    monkeypatch.setattr(producer.sys, "argv", ["producer", str(config), str(tmp_path / "host.prom")])
    assert producer.main() == 0
    assert (tmp_path / "host.prom").read_text() == "['/a']\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "host.prom"]

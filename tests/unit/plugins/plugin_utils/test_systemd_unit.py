"""Unit files from data."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from plugins.plugin_utils.systemd_unit import render, systemd_units

SANDBOX = {"PrivateTmp": True, "ProtectHome": True}
SERVICE = {"Service": {"ExecStart": "/bin/true"}}


def test_render():
    text = render(
        {
            "Install": {"WantedBy": "multi-user.target"},
            "Unit": {"Description": "A, with = and %i", "After": ["a.service", "b.service"]},
            "Service": {
                "PrivateTmp": True,
                "RemainAfterExit": False,
                "CapabilityBoundingSet": "",
                "User": None,
                "Nice": 0,
            },
        }
    )
    assert text == (
        "# Managed by Ansible (bulwark.stack).\n"
        "\n[Unit]\nDescription=A, with = and %i\nAfter=a.service\nAfter=b.service\n"
        "\n[Service]\nPrivateTmp=yes\nRemainAfterExit=no\nCapabilityBoundingSet=\nNice=0\n"
        "\n[Install]\nWantedBy=multi-user.target\n"
    )


def test_an_empty_section_is_left_out():
    assert "[Unit]" not in render({"Unit": {}, "Service": {"ExecStart": "/bin/true"}})


def test_unknown_section():
    with pytest.raises(AnsibleFilterError, match="unknown section Servce; known are Unit"):
        render({"Servce": {}})


def test_a_line_break_cannot_smuggle_a_setting_in():
    with pytest.raises(AnsibleFilterError, match=r"Service.Environment has a line break"):
        render({"Service": {"Environment": "A=1\nUser=root"}})


def content(**unit):
    return systemd_units([{"name": "app.service", "sections": SERVICE, **unit}], SANDBOX)[0]["content"]


def test_own_services_get_the_sandbox():
    assert "PrivateTmp=yes\nProtectHome=yes\nExecStart=/bin/true" in content()


def test_the_caller_relaxes_a_line():
    text = content(sections={"Service": {"ExecStart": "/bin/true", "ProtectHome": None, "PrivateTmp": False}})
    assert "ProtectHome" not in text
    assert "PrivateTmp=no" in text


@pytest.mark.parametrize("unit", [{"drop_in": "bulwark"}, {"sandbox": False}, {"name": "app.socket"}])
def test_who_gets_no_sandbox(unit):
    assert "PrivateTmp" not in content(**unit)


def test_a_drop_in_may_ask_for_it():
    assert "PrivateTmp" in content(drop_in="bulwark", sandbox=True)


def test_a_unit_without_sections_has_no_content():
    entry = {"name": "redis-server.service", "enabled": False, "state": "stopped"}
    assert systemd_units([entry], SANDBOX) == [entry]


def test_the_input_stays_as_it_was():
    unit = {"name": "app.service", "sections": {"Service": {"ExecStart": "/bin/true"}}}
    systemd_units([unit], SANDBOX)
    assert unit == {"name": "app.service", "sections": {"Service": {"ExecStart": "/bin/true"}}}

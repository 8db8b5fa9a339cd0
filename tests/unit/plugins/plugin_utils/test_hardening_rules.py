"""The table of hardening rules, and what it comes to on a host."""

from __future__ import annotations

import json

import pytest

from plugins.plugin_utils import hardening_rules as rules

HOST = {"packages": {"cron": "3"}, "modules": [], "container": False, "efi": False, "router_advertisements": False}
MORE = {"services": [], "forwarding": False, "logins": ["deploy"], "quantum_safe_client": True}


def plan(profile="cis_level1", off=None, host=None, **more):
    return rules.base_hardening_plan(profile, off or {}, {**HOST, **(host or {})}, {**MORE, **more})


def placed(done):
    return {entry["path"]: entry for entry in done["files"] if entry.get("state") != "absent"}


def removed(done):
    return {entry["path"] for entry in done["files"] if entry.get("state") == "absent"}


def test_names_are_unique_and_profiles_known():
    names = [rule.name for rule in rules.RULES]
    assert len(names) == len(set(names))
    assert {rule.profile for rule in rules.RULES} <= set(rules.PROFILES)
    assert all(rule.why.endswith(".") for rule in rules.RULES)


def test_no_file_is_asked_for_twice_with_different_content():
    seen = {}
    for entry in plan("cis_level2")["files"]:
        assert seen.setdefault(entry["path"], entry) == entry


@pytest.mark.parametrize("profile", rules.PROFILES)
def test_each_profile_holds_those_before_it(profile):
    on, left_out = rules.active(profile, {}, rules.Host(logins=["deploy"]))
    assert {rule.name for rule in on} | set(left_out) == {rule.name for rule in rules.RULES}
    before = rules.PROFILES[: rules.PROFILES.index(profile) + 1]
    assert {rule.profile for rule in on} <= set(before)


def test_a_rule_that_is_off_takes_its_own_files_away_and_stands_in_the_report():
    done = plan(off={"sudo_log": "the disk is small"})
    assert "/etc/sudoers.d/bulwark-log" in removed(done)
    assert "logrotate" not in done["packages"]
    report = json.loads(placed(done)["/var/lib/bulwark/hardening.json"]["content"])
    assert report["rules"]["sudo_log"] == {"on": False, "cis": "5.2.3", "reason": "the disk is small"}


def test_files_of_others_and_profiles_of_pam_are_never_removed():
    gone = removed(plan("baseline"))
    assert all("bulwark" in path and "pam-configs" not in path for path in gone)


def test_a_container_sets_only_its_network():
    done = plan(host={"container": True})
    assert all(key.startswith("net.") for key in done["sysctls"])
    assert "apparmor" not in done["packages"]


def test_who_forwards_keeps_forwarding():
    assert plan()["sysctls"]["net.ipv4.ip_forward"] == 0
    forwarding = plan("cis_level2", forwarding=True)["sysctls"]
    assert not [key for key in forwarding if "forward" in key or "rp_filter" in key or "send_redirects" in key]
    assert "user.max_user_namespaces" not in forwarding


def test_stateful_services_keep_their_memory():
    assert plan(services=["redis"])["sysctls"]["vm.swappiness"] == 10
    assert "vm.swappiness" not in plan()["sysctls"]


def test_a_host_whose_router_announces_itself_keeps_its_ipv6_route():
    key = "net.ipv6.conf.default.accept_ra"
    assert plan()["sysctls"][key] == 0
    assert key not in plan(host={"router_advertisements": True})["sysctls"]


def test_modules_in_use_stay():
    assert "blacklist usb-storage\n" in placed(plan())["/etc/modprobe.d/bulwark.conf"]["content"]
    text = placed(plan(host={"modules": ["usb_storage"]}))["/etc/modprobe.d/bulwark.conf"]["content"]
    assert "usb-storage" not in text
    assert "install cramfs /bin/false\n" in text
    names = [name for rule in rules.RULES for name in rule.modules]
    assert not {"overlay", "squashfs", "vfat", "nf_tables", "br_netfilter"} & set(names)


def test_only_who_is_named_may_log_in_at_level_1():
    assert "AllowUsers" not in plan("baseline")["ssh"]
    assert plan(logins=["deploy", "ops"])["ssh"]["AllowUsers"] == "deploy ops"
    assert "AllowUsers" not in plan(logins=[])["ssh"]


def test_other_clients_keep_their_key_exchange():
    assert plan()["ssh"]["KexAlgorithms"] == "quantum-safe"
    assert "KexAlgorithms" not in plan(quantum_safe_client=False)["ssh"]


def test_lists_for_cron_belong_to_those_who_read_them():
    allow = placed(plan())["/etc/cron.allow"]
    assert (allow["content"], allow["group"]) == ("deploy\nroot\n", "crontab")
    assert placed(plan(host={"packages": {}}))["/etc/cron.allow"]["group"] == "root"


def test_baseline_leaves_pam_alone():
    done = plan("baseline")
    assert done["units"] == [{"name": "bulwark-hardening.service", "state": "absent"}]
    assert not [path for path in placed(done) if "pam" in path]


def test_passwords_never_expire_by_our_doing():
    assert "PASS_MAX_DAYS" not in str(rules.RULES)


def test_profiles_of_pam_have_the_form_of_pam_auth_update():
    text = placed(plan())["/usr/share/pam-configs/bulwark-pwhistory"]["content"]
    assert "\nPassword-Type: Primary\nPassword:\n\trequisite pam_pwhistory.so" in text
    assert text.endswith(
        "\nPassword-Initial:\n\trequisite pam_pwhistory.so remember=24 enforce_for_root try_first_pass\n"
    )


def test_unwanted_packages_are_those_that_are_there():
    assert plan(host={"packages": {"telnet": "1", "nginx": "1"}})["unwanted"] == ["telnet"]
    assert plan("baseline", host={"packages": {"telnet": "1"}})["unwanted"] == []


def test_switches_need_a_name_and_a_reason():
    said = rules.base_hardening_profile_problems("cis", {"sudo_lgo": "x", "umask": ""})
    assert said[0].startswith("base_hardening_profile is 'cis'; it is one of baseline")
    assert said[1] == "base_hardening_rules_off: there is no rule 'sudo_lgo'; did you mean sudo_log?"
    assert said[2] == "base_hardening_rules_off: give a reason for umask; it stands in the report."
    assert rules.base_hardening_profile_problems("baseline", {"umask": "why not"}) == []

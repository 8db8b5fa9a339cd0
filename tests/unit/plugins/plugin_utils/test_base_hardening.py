"""The base of a host from data."""

from __future__ import annotations

import pytest

from plugins.plugin_utils import base_hardening as base

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey me@laptop"
DEPLOY = {"name": "deploy", "keys": [KEY]}


@pytest.mark.parametrize(
    ("package", "first"),
    [
        ("1:10.0p1-7+deb13u4", "mlkem768x25519-sha256"),
        ("1:9.6p1-3ubuntu13", "sntrup761x25519-sha512@openssh.com"),
        ("1:8.9p1-3ubuntu0.10", "sntrup761x25519-sha512@openssh.com"),
        ("", "sntrup761x25519-sha512@openssh.com"),
    ],
)
def test_key_exchange_by_version(package, first):
    assert base.base_hardening_ssh_settings(22, "no", package)["KexAlgorithms"].split(",")[0] == first


def test_root_login_written_as_a_boolean():
    assert base.base_hardening_ssh_settings(22, False, "")["PermitRootLogin"] == "no"


def test_own_settings_win():
    settings = base.base_hardening_ssh_settings(
        22, "no", "", {"MaxStartups": 5, "AcceptEnv": ["A", "B"], "UseDNS": False}
    )
    text = base.base_hardening_ssh_lines(settings)
    assert "MaxStartups 5\n" in text
    assert "AcceptEnv A\nAcceptEnv B\nUseDNS no\n" in text


def test_drift_is_told():
    settings = base.base_hardening_ssh_settings(22, "prohibit-password", "1:9.2p1")
    effective = base.base_hardening_ssh_lines(settings).lower().replace("prohibit-password", "without-password")
    assert base.base_hardening_ssh_drift(effective, settings) == []
    told = base.base_hardening_ssh_drift(
        effective.replace("\npasswordauthentication no", "\npasswordauthentication yes"), settings
    )
    assert told == ["PasswordAuthentication is yes and should be no."]
    assert base.base_hardening_ssh_drift(effective + "port 2200\n", settings) == ["Port is 22, 2200 and should be 22."]


def test_socket_is_touched_only_for_another_port():
    socket, service = base.base_hardening_ssh_units(22)
    assert socket == {"name": "ssh.socket", "drop_in": "bulwark", "state": "absent"}
    assert "state" not in service
    assert base.base_hardening_ssh_units(2222)[0]["sections"]["Socket"]["ListenStream"] == ["", "2222"]


def test_accounts_that_exist_cost_nothing():
    users = [DEPLOY, {"name": "ops", "sudo": "password", "password_hash": "$6$x"}, {"name": "old", "state": "absent"}]
    known = {"deploy": 1000, "ops": 1001, "old": 1002}
    assert [(one["name"], one["state"]) for one in base.base_hardening_account_changes(users, known)] == [
        ("ops", "present"),
        ("old", "absent"),
    ]
    assert [one["name"] for one in base.base_hardening_account_changes(users, {})] == ["deploy", "ops"]


def test_sudo():
    text = base.sudoers([DEPLOY, {"name": "ops", "sudo": "password"}, {"name": "old", "state": "absent"}])
    assert text.splitlines()[1:] == ["deploy ALL=(ALL:ALL) NOPASSWD: ALL", "ops ALL=(ALL:ALL) ALL"]


def test_keys_are_exactly_the_declared_ones():
    files = {entry["path"]: entry for entry in base.base_hardening_account_files([{**DEPLOY, "home": "/srv/deploy"}])}
    assert files["/srv/deploy/.ssh/authorized_keys"]["content"] == KEY + "\n"
    assert files["/etc/sudoers.d/bulwark"]["validate"] == "/usr/sbin/visudo -cf %s"


@pytest.mark.parametrize(
    ("users", "sentence"),
    [
        ([], "no admin user with a key would remain"),
        ([{"name": "deploy"}], "no admin user with a key would remain"),
        ([{**DEPLOY, "state": "absent"}], "no admin user with a key would remain"),
        ([{"name": "root", "keys": [KEY]}], "'root' cannot be the name of an admin user"),
        ([{"name": "deploy", "keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}], "a private key is among the keys"),
        ([{"name": "deploy", "keys": ["~/.ssh/id_ed25519.pub"]}], "is not a public key"),
        ([{**DEPLOY, "sudo": "password"}], "no password_hash"),
        ([{**DEPLOY, "password_hash": "plain"}], "is not a hash"),
        ([DEPLOY, DEPLOY], "'deploy' is there twice"),
    ],
)
def test_users_that_could_not_come_in_are_refused(users, sentence):
    assert sentence in " ".join(base.base_hardening_user_problems(users))


def test_good_users_are_taken():
    users = [DEPLOY, {"name": "ops", "keys": [f'from="10.0.0.0/8" {KEY}'], "sudo": "password", "password_hash": "$6$x"}]
    assert base.base_hardening_user_problems(users) == []


def test_user_of_this_run_must_come_in_again():
    assert "ansible_user is root" in base.base_hardening_login_problems("root", "no", [DEPLOY])[0]
    assert base.base_hardening_login_problems("root", "prohibit-password", [DEPLOY]) == []
    assert "has no keys" in base.base_hardening_login_problems("ops", "no", [DEPLOY, {"name": "ops"}])[0]
    assert base.base_hardening_login_problems("ubuntu", "no", [DEPLOY]) == []


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"port": 0, "name": "x", "from": ["any"]}, "'0' is not a port"),
        ({"port": "80-90", "name": "x", "from": ["any"]}, "'80-90' is not a port"),
        ({"port": 80, "proto": "icmp", "name": "x", "from": ["any"]}, "proto is 'icmp'"),
        ({"port": 80, "name": "x", "from": ["office"]}, "'office' is not an address"),
        ({"port": 22, "name": "x", "from": ["any"]}, "port 22 is the SSH port"),
        ({"port": "90:80", "name": "x", "from": ["any"]}, "the range 90:80 ends before it begins"),
        ({"port": 80, "name": "x", "from": ["group:wbe"]}, "there is no inventory group 'wbe'"),
        ({"port": 80, "name": "x", "from": ["host:web1"]}, "the address of web1 is not known"),
    ],
)
def test_rules_that_ufw_could_not_take_are_refused(rule, sentence):
    assert sentence in " ".join(base.base_hardening_rule_problems([rule], 22, ["any"]))


def test_good_rules_are_taken():
    rules = [
        {"port": "30000:32767", "name": "nodes", "from": ["10.0.0.0/8"]},
        {"port": 53, "proto": "udp", "name": "dns"},
    ]
    assert base.base_hardening_rule_problems(rules, 22, ["any"]) == []
    assert "nobody could come in" in base.base_hardening_rule_problems(rules, 22, [])[0]


def test_groups_stand_for_their_addresses():
    groups = {"web": ["10.0.0.1", "10.0.0.2"]}
    rules = [{"port": 1, "name": "x", "from": ["group:web", "10.0.0.1", "group:none"]}, {"port": 2, "name": "y"}]
    resolved = base.base_hardening_resolved(rules, groups)
    assert [rule.get("from") for rule in resolved] == [["10.0.0.1", "10.0.0.2", "group:none"], None]
    assert base.base_hardening_resolved([{"port": 1, "to": None, "name": "x"}], groups)[0]["to"] == []


def test_egress():
    rules = base.base_hardening_egress(
        [{"port": 443, "name": "web"}, {"port": 25, "to": ["192.0.2.1"], "name": "mail"}]
    )
    assert [(rule["port"], rule["to"]) for rule in rules[-2:]] == [("443", ["any"]), ("25", ["192.0.2.1"])]
    assert ("53", "udp") in [(rule["port"], rule["proto"]) for rule in rules]
    # The port of SSH is nobody else's to let in, and anybody's to go out to.
    assert base.base_hardening_rule_problems([], 22, ["any"], [{"port": 22, "to": ["10.0.0.0/8"], "name": "git"}]) == []
    assert (
        "'mail' is not an address"
        in base.base_hardening_rule_problems([], 22, ["any"], [{"port": 25, "to": ["mail"], "name": "mail"}])[0]
    )


def test_ssh_is_the_first_rule_and_loopback_needs_none():
    rules = base.base_hardening_rules(
        22, ["any"], True, [{"port": 6379, "from": [], "name": "redis"}, {"port": 80, "from": ["any"], "name": "web"}]
    )
    assert [(rule["port"], rule.get("action")) for rule in rules] == [("22", "limit"), ("80", None)]


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("1:8.9p1-3ubuntu0.13", "sntrup761x25519-sha512@openssh.com"),
        ("1:9.2p1-2+deb12u7", "sntrup761x25519-sha512@openssh.com"),
        ("1:10.0p1-7", "mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com"),
    ],
)
def test_quantum_safe_key_exchange_is_what_the_version_has(package, names):
    settings = base.base_hardening_ssh_settings(22, "no", package, {"KexAlgorithms": "quantum-safe"})
    assert settings["KexAlgorithms"] == names


def test_who_may_log_in():
    users = [{"name": "deploy", "keys": ["x"]}, {"name": "gone", "state": "absent"}]
    assert base.base_hardening_logins(users, "no", ["ubuntu", "deploy", ""]) == ["deploy", "ubuntu"]
    assert base.base_hardening_logins(users, "prohibit-password", []) == ["deploy", "root"]


def test_swap():
    assert [base.base_hardening_swap_mb(mb, False) for mb in (512, 4000, 16384, 65536)] == [1024, 2000, 4096, 4096]
    assert base.base_hardening_swap_mb(16384, True) == 0


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("web1", "web1"),
        ("web1.example.com", "web1.example.com"),
        ("192.0.2.1", ""),
        ("2001:db8::1", ""),
        ("web_1", ""),
        ("localhost", ""),
    ],
)
def test_not_every_name_is_a_host_name(name, host):
    assert base.base_hardening_host_name(name) == host


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Missing sudo password", "run with --ask-become-pass"),
        ("sudo: a password is required", "run with --ask-become-pass"),
        ("guest is not in the sudoers file.", "guest may not use sudo"),
        ("Incorrect sudo password", "refuses the password of guest"),
        ("sudo: not found", "sudo is not installed"),
        ("boom", "web1: boom"),
    ],
)
def test_why_a_host_cannot_be_worked_on(said, sentence):
    assert sentence in base.base_hardening_contact_problem({"msg": said}, "web1", "guest")

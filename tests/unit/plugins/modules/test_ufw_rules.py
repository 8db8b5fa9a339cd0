"""ufw_rules: the pure parts, and the module against a directory and programs that play UFW."""

from __future__ import annotations

import pytest

from plugins.modules import ufw_rules

SSH = {"port": "22", "proto": "tcp", "from": ["any"], "name": "ssh", "action": "allow"}
OFFICE = {"port": "5432", "proto": "tcp", "from": ["10.0.0.0/8", "2001:db8::1"], "name": "postgres", "action": "allow"}
FILE = "*filter\n:x - [0:0]\n### RULES ###\n\n### END RULES ###\nCOMMIT\n"


def test_sources_are_written_as_ufw_writes_them():
    assert ufw_rules.sources(["10.1.2.3/8", "192.0.2.7/32", "2001:db8::/32"], 4) == ["10.0.0.0/8", "192.0.2.7"]
    assert ufw_rules.sources(["2001:DB8:0::1/128", "10.0.0.0/8"], 6) == ["2001:db8::1"]
    assert ufw_rules.sources(["any"], 4) == ["0.0.0.0/0"]
    with pytest.raises(ValueError, match="office"):
        ufw_rules.sources(["office"], 4)


def test_each_ip_version_gets_its_own_and_nothing_twice():
    rules = [SSH, OFFICE, {**SSH, "name": "again"}]
    assert [(rule.port, rule.source, rule.name) for rule in ufw_rules.expand(rules, 4)] == [
        ("22", "0.0.0.0/0", "ssh"),
        ("5432", "10.0.0.0/8", "postgres"),
    ]
    assert [rule.source for rule in ufw_rules.expand(rules, 6)] == ["::/0", "2001:db8::1"]


def test_rules_are_written_as_ufw_writes_them():
    rules = ufw_rules.expand([{**SSH, "action": "limit"}, OFFICE, {**OFFICE, "port": "30000:32767", "proto": "udp"}], 6)
    assert ufw_rules.render(rules, 6) == (
        "### RULES ###\n\n"
        "### tuple ### limit tcp 22 ::/0 any ::/0 in comment=737368\n"
        "-A ufw6-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --set\n"
        "-A ufw6-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 6"
        " -j ufw6-user-limit\n"
        "-A ufw6-user-input -p tcp --dport 22 -j ufw6-user-limit-accept\n\n"
        "### tuple ### allow tcp 5432 ::/0 any 2001:db8::1 in comment=706f737467726573\n"
        "-A ufw6-user-input -p tcp --dport 5432 -s 2001:db8::1 -j ACCEPT\n\n"
        "### tuple ### allow udp 30000:32767 ::/0 any 2001:db8::1 in comment=706f737467726573\n"
        "-A ufw6-user-input -p udp -m multiport --dports 30000:32767 -s 2001:db8::1 -j ACCEPT\n\n"
        "### END RULES ###"
    )


def test_only_the_rules_section_changes():
    text = ufw_rules.replace_section(FILE, ufw_rules.render([], 4))
    assert text == FILE
    with pytest.raises(ValueError, match="no rules section"):
        ufw_rules.replace_section("*filter\nCOMMIT\n", "x")


def test_rules_are_shown_to_people():
    text = ufw_rules.replace_section(FILE, ufw_rules.render(ufw_rules.expand([SSH], 4), 4))
    assert ufw_rules.readable(text) == "allow 22/tcp from 0.0.0.0/0  # ssh\n"
    assert ufw_rules.readable("### tuple ### route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_eth0 out_eth1\n") != ""


def test_settings_are_replaced_or_added():
    settings = {"IPV6": "yes", "DEFAULT_INPUT_POLICY": '"DROP"'}
    text = ufw_rules.with_settings('# IPV6=x\nIPV6=no\nDEFAULT_FORWARD_POLICY="DROP"\n', settings)
    assert text == '# IPV6=x\nIPV6=yes\nDEFAULT_FORWARD_POLICY="DROP"\nDEFAULT_INPUT_POLICY="DROP"\n'


def test_own_connection_stays_open():
    assert ufw_rules.guarded([SSH], None) == ([SSH], "")
    assert ufw_rules.guarded([SSH], ("192.0.2.7", "22")) == ([SSH], "")
    moved, kept = ufw_rules.guarded([{**SSH, "port": "2222"}, OFFICE], ("192.0.2.7", "22"))
    assert [(rule["port"], rule["from"]) for rule in moved[:2]] == [("2222", ["any"]), ("22", ["192.0.2.7"])]
    assert kept == "192.0.2.7 port 22"


@pytest.mark.parametrize("source", ["10.0.0.0/8", "2001:db8::/32", "192.0.2.8"])
def test_rules_that_leave_this_client_out_are_refused(source):
    with pytest.raises(ValueError, match="over which this very run came"):
        ufw_rules.guarded([{**SSH, "from": [source]}], ("192.0.2.7", "22"))


@pytest.fixture
def ufw(monkeypatch, tmp_path):
    """A directory as the package leaves it, and a kernel that does what it is told."""
    for name, text in (
        ("user.rules", FILE),
        ("user6.rules", FILE),
        ("ufw.conf", "ENABLED=no\n"),
        ("default", 'IPV6=no\nDEFAULT_INPUT_POLICY="ACCEPT"\n'),
    ):
        (tmp_path / name).write_text(text)
    families = {
        version: (str(tmp_path / path.rsplit("/", 1)[1]), *rest)
        for version, (path, *rest) in ufw_rules.FAMILIES.items()
    }
    monkeypatch.setattr(ufw_rules, "FAMILIES", families)
    monkeypatch.setattr(ufw_rules, "CONF", str(tmp_path / "ufw.conf"))
    monkeypatch.setattr(ufw_rules, "DEFAULTS", str(tmp_path / "default"))
    monkeypatch.setattr(ufw_rules, "connection", lambda: None)
    kernel = {"calls": [], "ufw": [], "ufw6": [], "on": False, "broken": ""}

    def lines(name):
        return [line for line in (tmp_path / name).read_text().splitlines() if line.startswith("-A ")]

    def run(self, words, data=None, **_):
        kernel["calls"].append(" ".join(words))
        if kernel["broken"] and kernel["broken"] in " ".join(words):
            return 1, "", "it is broken"
        prefix = "ufw6" if words[0].startswith("ip6") else "ufw"
        if words[-1] == "-S":
            frame = ["-P INPUT DROP", f"-A INPUT -j {prefix}-before-input"] if kernel["on"] else ["-P INPUT ACCEPT"]
            return 0, "\n".join(frame + kernel[prefix]), ""
        if words[0] == "ufw":
            (tmp_path / "ufw.conf").write_text("ENABLED=yes\n")
            kernel.update(on=True, ufw=lines("user.rules"), ufw6=lines("user6.rules"))
        elif "--test" not in words:
            kernel[prefix] = [line for line in data.splitlines() if line.startswith("-A ")]
        return 0, "", ""

    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.run_command", run)
    kernel["path"] = tmp_path
    return kernel


def test_new_host(triple, ufw):
    result = triple(ufw_rules, rules=[SSH, OFFICE])
    assert result["loaded"]
    assert ufw["on"]
    assert (ufw["path"] / "default").read_text() == 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\n'


def test_change_is_one_transaction_and_no_reload(triple, run_module, ufw):
    run_module(ufw_rules, rules=[SSH])
    ufw["calls"].clear()
    triple(ufw_rules, rules=[SSH, OFFICE])
    assert not [call for call in ufw["calls"] if call.startswith("ufw")]
    assert "iptables-restore -n" in ufw["calls"]


def test_lost_rules_are_loaded_again(triple, run_module, ufw):
    run_module(ufw_rules, rules=[SSH])
    ufw["ufw6"] = []
    triple(ufw_rules, rules=[SSH])
    assert ufw["ufw6"]


def test_rules_that_the_kernel_refuses_touch_no_file(run_module, ufw):
    ufw["broken"] = "--test"
    result = run_module(ufw_rules, rules=[SSH])
    assert result.failed
    assert "it is broken" in result["msg"]
    assert (ufw["path"] / "user.rules").read_text() == FILE


def test_kernel_without_filters(run_module, ufw):
    ufw["broken"] = "tables -S"
    result = run_module(ufw_rules, rules=[SSH])
    assert not result["loaded"]
    assert not result.failed
    assert not run_module(ufw_rules, rules=[SSH])["changed"]


def test_host_without_ufw(run_module, ufw):
    (ufw["path"] / "ufw.conf").unlink()
    assert run_module(ufw_rules, check=True, rules=[SSH])["changed"]
    assert "not installed" in run_module(ufw_rules, rules=[SSH])["msg"]

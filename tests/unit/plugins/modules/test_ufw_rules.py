"""ufw_rules: the pure parts, and the module against a directory and programs that play UFW."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugins.modules import ufw_rules

SSH = {"port": "22", "proto": "tcp", "from": ["any"], "name": "ssh", "action": "allow"}
OFFICE = {"port": "5432", "proto": "tcp", "from": ["10.0.0.0/8", "2001:db8::1"], "name": "postgres", "action": "allow"}
WEB = {"port": "443", "proto": "tcp", "to": ["any"], "name": "web"}
FILE = "*filter\n:x - [0:0]\n### RULES ###\n\n### END RULES ###\nCOMMIT\n"
AFTER = "*filter\n:ufw-after-input - [0:0]\n-A ufw-after-input -p udp --dport 137 -j x\nCOMMIT\n"


def test_networks_are_written_as_ufw_writes_them():
    assert ufw_rules.networks(["10.1.2.3/8", "192.0.2.7/32", "2001:db8::/32"], 4) == ["10.0.0.0/8", "192.0.2.7"]
    assert ufw_rules.networks(["2001:DB8:0::1/128", "10.0.0.0/8"], 6) == ["2001:db8::1"]
    assert ufw_rules.networks(["any"], 4) == ["0.0.0.0/0"]
    with pytest.raises(ValueError, match="office"):
        ufw_rules.networks(["office"], 4)


def test_each_ip_version_gets_its_own_and_nothing_twice():
    rules = [SSH, OFFICE, {**SSH, "name": "again"}]
    assert [(rule.port, rule.peer, rule.name) for rule in ufw_rules.expand(rules, 4)] == [
        ("22", "0.0.0.0/0", "ssh"),
        ("5432", "10.0.0.0/8", "postgres"),
    ]
    assert [rule.peer for rule in ufw_rules.expand(rules, 6)] == ["::/0", "2001:db8::1"]


def test_rules_are_written_as_ufw_writes_them():
    rules = ufw_rules.expand([{**SSH, "action": "limit"}, OFFICE, {**OFFICE, "port": "30000:32767", "proto": "udp"}], 6)
    assert ufw_rules.render(rules, [], 6) == (
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


def test_what_goes_out_is_written_as_ufw_writes_it():
    rules = ufw_rules.expand(
        [{**WEB, "to": ["192.0.2.0/24"]}, {**WEB, "port": "80:81", "to": ["192.0.2.7/32"]}, WEB], 4
    )
    lines = ufw_rules.render([], rules, 4).splitlines()
    assert [line for line in lines if line.startswith("-A")] == [
        "-A ufw-user-output -p tcp -d 192.0.2.0/24 --dport 443 -j ACCEPT",
        "-A ufw-user-output -p tcp -m multiport --dports 80:81 -d 192.0.2.7 -j ACCEPT",
        "-A ufw-user-output -p tcp --dport 443 -j ACCEPT",
    ]
    assert "### tuple ### allow tcp 443 192.0.2.0/24 any 0.0.0.0/0 out comment=776562" in lines


def block(rules=(), egress=None, backend="iptables", outside=()):
    return ufw_rules.docker_block(ufw_rules.expand([*rules], 4), egress, 4, backend, [*outside])


def lines_of(text, chain):
    return [line.removeprefix(f"-A {chain} ") for line in text.splitlines() if line.startswith(f"-A {chain} ")]


def test_published_ports_are_those_of_the_rules():
    odd = {**OFFICE, "name": 'the "old"\\office'}
    assert lines_of(block([odd]), "bulwark-published") == [
        "-s 10.0.0.0/8 -p tcp -m conntrack --ctstate DNAT --ctorigdstport 5432"
        ' -m comment --comment "the _old__office" -j RETURN',
        "-m conntrack --ctstate DNAT -j DROP",
        "-o docker+ -j DROP",
        "-o br-+ -j DROP",
    ]


def test_containers_go_out_as_the_policy_says():
    assert "-i br-+ -j RETURN" in lines_of(block(), "bulwark-docker")
    strict = block(egress=ufw_rules.expand([{**WEB, "to": ["192.0.2.7"]}], 4))
    assert "-i br-+ -g bulwark-egress" in lines_of(strict, "bulwark-docker")
    assert lines_of(strict, "bulwark-egress") == [
        "-o docker+ -j RETURN",
        "-o br-+ -j RETURN",
        '-d 192.0.2.7 -p tcp --dport 443 -m comment --comment "web" -j RETURN',
        "-j REJECT",
    ]
    assert lines_of(strict, "ufw-after-output") == ["-o docker+ -j ACCEPT", "-o br-+ -j ACCEPT"]


def test_docker_with_nftables_is_called_by_ufw():
    assert lines_of(block(), "ufw-after-forward") == []
    assert lines_of(block(backend="nftables"), "ufw-after-forward")[0] == "-j DOCKER-USER"


def test_bridge_with_a_network_card_leads_outside(tmp_path):
    for path in ("br-lan/brif/eth1", "br-lan/brif/veth1", "br-0123/brif/veth2", "br-vlan/brif/eth0.5", "eth1/device"):
        (tmp_path / path).mkdir(parents=True)
    for name, text in (("veth2", ""), ("eth0.5", "DEVTYPE=vlan\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "uevent").write_text(text)
    assert ufw_rules.bridges_of_the_host(str(tmp_path)) == ["br-lan", "br-vlan"]
    assert ufw_rules.bridges_of_the_host(str(tmp_path / "none")) == []
    lines = lines_of(block(outside=["br-lan"]), "bulwark-docker")
    assert lines.index("-i br-lan -g bulwark-published") < lines.index("-i br-+ -j RETURN")
    lines = lines_of(block(outside=["br-lan"]), "bulwark-published")
    assert lines.index("-m conntrack --ctstate DNAT -j DROP") < lines.index("-o br-lan -j RETURN") < len(lines) - 2


@pytest.mark.parametrize(
    ("forward", "found"),
    [
        ("-j DOCKER-USER|-j DOCKER-FORWARD|-j ufw-before-forward", False),
        ("-j ufw-before-forward", False),
        ("-j cali-FORWARD|-j DOCKER-USER|-o docker0 -j DOCKER", False),
        ("-j DOCKER-ISOLATION-STAGE-1|-o br-1 -j DOCKER|-j ufw6-before-forward", True),
        ("-j DOCKER-FORWARD|-j DOCKER-USER", True),
        ("-j DOCKER-ISOLATION-STAGE-1|-j DOCKER-USER|-o docker0 -j DOCKER", False),
    ],
)
def test_engine_that_does_not_ask_is_found_out(forward, found):
    assert ufw_rules.bypassed(["-P FORWARD DROP", *(f"-A FORWARD {words}" for words in forward.split("|"))]) is found


def test_only_our_block_changes():
    text = ufw_rules.replace_block(AFTER, block())
    assert text.startswith(AFTER.removesuffix("COMMIT\n"))
    assert text.endswith("# END bulwark.stack\nCOMMIT\n")
    again = ufw_rules.replace_block(text, block([SSH]))
    assert again.count("BEGIN") == again.count("COMMIT") == 1
    assert ufw_rules.replace_block(again, block()) == text
    with pytest.raises(ValueError, match="COMMIT"):
        ufw_rules.replace_block("", block())


def test_only_the_rules_section_changes():
    text = ufw_rules.replace_section(FILE, ufw_rules.render([], [], 4))
    assert text == FILE
    with pytest.raises(ValueError, match="no rules section"):
        ufw_rules.replace_section("*filter\nCOMMIT\n", "x")


def test_rules_are_shown_to_people():
    text = ufw_rules.replace_section(FILE, ufw_rules.render(ufw_rules.expand([SSH], 4), ufw_rules.expand([WEB], 4), 4))
    assert ufw_rules.readable(text) == ("allow 22/tcp from 0.0.0.0/0  # ssh\nallow 443/tcp to 0.0.0.0/0  # web\n")
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
        ("after.rules", AFTER),
        ("after6.rules", AFTER.replace("ufw-", "ufw6-")),
        ("ufw.conf", "ENABLED=no\n"),
        ("default", 'IPV6=no\nDEFAULT_INPUT_POLICY="ACCEPT"\n'),
    ):
        (tmp_path / name).write_text(text)
    families = {
        version: one._replace(rules=str(tmp_path / Path(one.rules).name), after=str(tmp_path / Path(one.after).name))
        for version, one in ufw_rules.FAMILIES.items()
    }
    monkeypatch.setattr(ufw_rules, "FAMILIES", families)
    monkeypatch.setattr(ufw_rules, "CONF", str(tmp_path / "ufw.conf"))
    monkeypatch.setattr(ufw_rules, "DEFAULTS", str(tmp_path / "default"))
    monkeypatch.setattr(ufw_rules, "connection", lambda: None)
    monkeypatch.setattr(ufw_rules, "LINKS", str(tmp_path / "none"))
    kernel = {"calls": [], "ufw": {}, "ufw6": {}, "policy": "ACCEPT", "out": "ACCEPT", "broken": "", "killed": ""}

    def chains(text):
        found = {name: [] for name in re.findall(r"^:(\S+)", text, re.MULTILINE)}
        for line in text.splitlines():
            if line.startswith("-A "):
                found.setdefault(line.split()[1], []).append(line)
        return found

    def reload():
        for prefix, files in (("ufw", ("user.rules", "after.rules")), ("ufw6", ("user6.rules", "after6.rules"))):
            kernel[prefix] = {k: v for name in files for k, v in chains((tmp_path / name).read_text()).items()}
        refused = 'OUTPUT_POLICY="REJECT"' in (tmp_path / "default").read_text()
        kernel.update(policy="DROP", out="DROP" if refused else "ACCEPT")

    def run(self, words, data=None, **_):
        call = " ".join(words)
        kernel["calls"].append(call)
        if kernel["broken"] and kernel["broken"] in call:
            return 1, "", "it is broken"
        prefix = "ufw6" if words[0].startswith("ip6") else "ufw"
        if "-S" in words:
            lines = [line for chain in kernel[prefix].values() for line in chain]
            frame = [f"-P INPUT {kernel['policy']}", f"-P OUTPUT {kernel['out']}", f"-A INPUT -j {prefix}-before-input"]
            return 0, "\n".join(frame + lines), ""
        if words[0] == "ufw":
            (tmp_path / "ufw.conf").write_text("ENABLED=yes\n")
            reload()
        elif "--test" not in words:
            kernel[prefix].update(chains(data))
            if kernel["killed"] == call:
                raise KeyboardInterrupt
        return 0, "", ""

    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.run_command", run)
    kernel["path"] = tmp_path
    return kernel


def test_new_host(triple, ufw):
    result = triple(ufw_rules, rules=[SSH, OFFICE])
    assert result["loaded"]
    assert ufw["policy"] == "DROP"
    settings = (ufw["path"] / "default").read_text()
    assert settings == 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\n'
    assert ufw["ufw"]["DOCKER-USER"] == ["-A DOCKER-USER -j bulwark-docker"]


def test_change_is_one_transaction_and_no_reload(triple, run_module, ufw):
    run_module(ufw_rules, rules=[SSH])
    ufw["calls"].clear()
    triple(ufw_rules, rules=[SSH, OFFICE])
    assert not [call for call in ufw["calls"] if call.startswith("ufw")]
    assert "iptables-restore -n" in ufw["calls"]


def test_lost_rules_are_loaded_again(triple, run_module, ufw):
    run_module(ufw_rules, rules=[SSH])
    ufw["ufw6"] = {}
    triple(ufw_rules, rules=[SSH])
    assert ufw["ufw6"]
    ufw["ufw"]["DOCKER-USER"] = []
    triple(ufw_rules, rules=[SSH])
    assert ufw["ufw"]["DOCKER-USER"]


def test_egress_policy(triple, run_module, ufw):
    run_module(ufw_rules, rules=[SSH])
    triple(ufw_rules, rules=[SSH], egress_policy="deny", egress_rules=[WEB])
    assert ufw["out"] == "DROP"
    assert ufw["ufw6"]["ufw6-user-output"] == ["-A ufw6-user-output -p tcp --dport 443 -j ACCEPT"]
    triple(ufw_rules, rules=[SSH], egress_rules=[WEB])
    assert ufw["out"] == "ACCEPT"
    assert "-j REJECT" not in str(ufw["ufw"])


def test_run_that_is_killed_is_finished_by_the_next(run_module, ufw):
    """As many rules as before, so that only the files can tell."""
    run_module(ufw_rules, rules=[SSH])
    ufw["killed"] = "iptables-restore -n"
    with pytest.raises(KeyboardInterrupt):
        run_module(ufw_rules, rules=[{**SSH, "port": "2222"}])
    ufw["killed"] = ""
    assert run_module(ufw_rules, rules=[{**SSH, "port": "2222"}])["changed"]
    for prefix in ("ufw", "ufw6"):
        assert ufw[prefix][f"{prefix}-user-input"] == [f"-A {prefix}-user-input -p tcp --dport 2222 -j ACCEPT"]


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

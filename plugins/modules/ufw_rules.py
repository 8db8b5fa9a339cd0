#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_rules
short_description: Bring the rules of UFW to a declared list in one round trip
description:
  - What comes in is denied unless a rule says otherwise, over IPv4 and IPv6. A rule that is not in O(rules) goes.
  - The rules are tested first and then swapped in one transaction. There is no moment without them, and
    established connections stay.
  - The SSH connection that the task itself came over is never cut off. When O(rules) move SSH to another port, the
    old port stays open for this one client until a run comes in over the new one.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  rules:
    description: The rules, in their order.
    type: list
    elements: dict
    required: true
    suboptions:
      port:
        description: A port, or a range like V(30000:32767).
        type: str
        required: true
      proto:
        description: The protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
      from:
        description: Addresses and networks that are let in, or V(any). Nobody when the list is empty.
        type: list
        elements: str
        default: []
      name:
        description: Who asked for the rule; becomes its comment.
        type: str
        required: true
      action:
        description: V(limit) refuses an address that connects six times within 30 seconds.
        type: str
        choices: [allow, limit]
        default: allow
"""

EXAMPLES = r"""
- name: Let SSH and HTTPS in, and nothing else
  bulwark.stack.ufw_rules:
    rules:
      - {port: 22, from: [any], name: ssh}
      - {port: 443, from: [any], name: nginx}
      - {port: 5432, from: [10.0.0.0/8], name: postgres}
"""

RETURN = r"""
loaded: {description: Whether the kernel has the rules., returned: always, type: bool}
kept: {description: The address and port of a connection that no rule covers., returned: always, type: str}
"""

import ipaddress
import os
import re
import tempfile
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ssh import connection

SPEC = {
    "rules": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "port": {"type": "str", "required": True},
            "proto": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            "from": {"type": "list", "elements": "str", "default": []},
            "name": {"type": "str", "required": True},
            "action": {"type": "str", "choices": ["allow", "limit"], "default": "allow"},
        },
    },
}
# IP version to the rules file, the prefix of its chains, the programs, and what stands for every address.
FAMILIES = {
    4: ("/etc/ufw/user.rules", "ufw", "iptables", "0.0.0.0/0"),
    6: ("/etc/ufw/user6.rules", "ufw6", "ip6tables", "::/0"),
}
DEFAULTS = "/etc/default/ufw"
CONF = "/etc/ufw/ufw.conf"
POLICY = {"IPV6": "yes", "DEFAULT_INPUT_POLICY": '"DROP"'}
BEGIN = "### RULES ###"
END = "### END RULES ###"


class Rule(NamedTuple):
    action: str
    proto: str
    port: str
    source: str
    name: str


def sources(texts: list[str], version: int) -> list[str]:
    """The networks of one IP version as UFW writes them: a single address has no mask.

    @raises ValueError: a text is neither V(any) nor an address nor a network
    """
    found = []
    for text in texts:
        if text == "any":
            found.append(FAMILIES[version][3])
            continue
        network = ipaddress.ip_network(text, strict=False)
        if network.version == version:
            single = network.prefixlen == network.max_prefixlen
            found.append(str(network.network_address if single else network))
    return found


def expand(rules: list[dict[str, Any]], version: int) -> list[Rule]:
    """One rule per source of this IP version, in order; the first of equal ones counts."""
    done: dict[tuple[str, str, str], Rule] = {}
    for rule in rules:
        for source in sources(rule["from"], version):
            key = (rule["proto"], rule["port"], source)
            done.setdefault(key, Rule(rule["action"], rule["proto"], rule["port"], source, rule["name"]))
    return list(done.values())


def render(rules: list[Rule], version: int) -> str:
    """The rules section of a file as UFW itself writes it: a comment that it reads, lines that the kernel gets."""
    prefix, everybody = FAMILIES[version][1], FAMILIES[version][3]
    blocks = []
    for rule in rules:
        comment = rule.name.encode().hex()
        ports = f"-m multiport --dports {rule.port}" if ":" in rule.port else f"--dport {rule.port}"
        match = f"-A {prefix}-user-input -p {rule.proto} {ports}"
        if rule.source != everybody:
            match += f" -s {rule.source}"
        if rule.action == "limit":
            recent = f"{match} -m conntrack --ctstate NEW -m recent"
            lines = [
                f"{recent} --set",
                f"{recent} --update --seconds 30 --hitcount 6 -j {prefix}-user-limit",
                f"{match} -j {prefix}-user-limit-accept",
            ]
        else:
            lines = [f"{match} -j ACCEPT"]
        title = (
            f"### tuple ### {rule.action} {rule.proto} {rule.port} {everybody} any {rule.source} in comment={comment}"
        )
        blocks.append("\n".join([title, *lines]) + "\n")
    return "\n".join([f"{BEGIN}\n", *blocks, END])


def replace_section(text: str, section: str) -> str:
    """The text of a rules file with another rules section.

    @raises ValueError: the file has no such section
    """
    start, end = text.find(BEGIN), text.find(END)
    if start < 0:
        raise ValueError("it has no rules section")
    # The file that the package brings has the first mark and no second one.
    rest = text[end + len(END) :] if end > start else "\n" + text[start + len(BEGIN) :]
    return text[:start] + section + rest


def readable(text: str) -> str:
    """The rules of a file for people, one on a line."""
    lines = []
    for title in re.findall(r"^### tuple ### (.*)$", text, re.MULTILINE):
        words = title.split()
        comment = ""
        if words[-1].startswith("comment="):
            comment = "  # " + bytes.fromhex(words.pop()[8:]).decode(errors="replace")
        short = " ".join([words[0], f"{words[2]}/{words[1]}", "from", words[5]]) if len(words) == 7 else " ".join(words)
        lines.append(short + comment)
    return "".join(line + "\n" for line in lines)


def with_settings(text: str, settings: dict[str, str]) -> str:
    """The text of a shell file with these assignments; a missing one is added at the end."""
    for key, value in settings.items():
        line = f"{key}={value}"
        text, count = re.subn(rf"^{key}=.*$", line, text, flags=re.MULTILINE)
        if not count:
            text += line + "\n"
    return text


def covers(rule: dict[str, Any], client: str, port: str) -> bool:
    """Whether a rule lets this client reach this TCP port."""
    first, _sep, last = rule["port"].partition(":")
    if rule["proto"] != "tcp" or not int(first) <= int(port) <= int(last or first):
        return False
    address = ipaddress.ip_address(client)
    networks = [FAMILIES[address.version][3] if text == "any" else text for text in rule["from"]]
    return any(address in ipaddress.ip_network(text, strict=False) for text in networks)


def guarded(rules: list[dict[str, Any]], reached: tuple[str, str] | None) -> tuple[list[dict[str, Any]], str]:
    """The rules with one more if they would cut the connection of this run, and what that one keeps.

    @raises ValueError: the rules name the port of this run, and leave its client out
    """
    if reached is None:
        return rules, ""
    client, port = reached
    if any(covers(rule, client, port) for rule in rules):
        return rules, ""
    if any(rule["proto"] == "tcp" and rule["port"] == port for rule in rules):
        raise ValueError(
            f"the rules let nobody from {client} reach port {port}, over which this very run came: the next one could "
            f"not come in. Add {client} or its network to those who may use this port"
        )
    extra = {
        "port": port,
        "proto": "tcp",
        "from": [client],
        "name": "until a run uses the new SSH port",
        "action": "allow",
    }
    return [*rules[:1], extra, *rules[1:]], f"{client} port {port}"


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    info = os.stat(path)
    descriptor, temporary = tempfile.mkstemp(prefix=".bulwark-", dir=os.path.dirname(path))
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.chmod(temporary, info.st_mode & 0o7777)
    os.chown(temporary, info.st_uid, info.st_gid)
    os.replace(temporary, path)


class Firewall:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.diffs: list[dict[str, str]] = []

    def command(self, *words: str, data: str | None = None) -> None:
        rc, out, err = self.module.run_command(list(words), data=data, binary_data=False)
        if rc:
            self.module.fail_json(msg=f"'{' '.join(words)}' failed: {(err or out).strip()}")

    def note(self, title: str, before: str, after: str) -> None:
        self.diffs.append({"before_header": title, "after_header": title, "before": before, "after": after})

    def live(self, version: int, section: str) -> bool | None:
        """Whether the kernel denies by default and has as many rules as the section; None where it cannot filter."""
        prefix, program = FAMILIES[version][1:3]
        rc, out, _err = self.module.run_command([program, "-S"])
        if rc:
            return None
        lines = out.splitlines()
        wanted = sum(1 for line in section.splitlines() if line.startswith("-A "))
        return (
            "-P INPUT DROP" in lines
            and f"-A INPUT -j {prefix}-before-input" in lines
            and sum(1 for line in lines if line.startswith(f"-A {prefix}-user-input ")) == wanted
        )

    def run(self) -> dict[str, Any]:
        try:
            rules, kept = guarded(self.module.params["rules"], connection())
            sections = {version: render(expand(rules, version), version) for version in FAMILIES}
        except ValueError as exc:
            self.module.fail_json(msg=f"ufw_rules: {exc}.")
        if not os.path.exists(CONF):
            if not self.module.check_mode:
                self.module.fail_json(msg="UFW is not installed on this host; install the package ufw first.")
            for version, section in sections.items():
                self.note(FAMILIES[version][0], "", readable(section))
            return {"loaded": False, "kept": kept}
        changed = self.place(sections)
        settings = read(DEFAULTS)
        if with_settings(settings, POLICY) != settings:
            self.note(DEFAULTS, settings, with_settings(settings, POLICY))
        enabled = re.search(r"^ENABLED=yes$", read(CONF), re.MULTILINE | re.IGNORECASE) is not None
        states = {version: self.live(version, section) for version, section in sections.items()}
        loaded = all(state is not False for version, state in states.items() if version not in changed)
        if states[4] is None:
            self.module.warn("This kernel does not let us filter packets; the rules are written and not in effect.")
        elif not enabled:
            self.note("ufw", "inactive\n", "active\n")
        elif not loaded:
            self.note("ufw", "the kernel lacks rules\n", "the kernel has the rules\n")
        if self.module.check_mode or not self.diffs:
            return {"loaded": enabled and loaded and states[4] is not None, "kept": kept}
        self.write(changed, states)
        if states[4] is not None:
            self.load(changed, states, enabled, sections)
        return {"loaded": states[4] is not None, "kept": kept}

    def place(self, sections: dict[int, str]) -> dict[int, str]:
        """IP version to the new text of the rules files that differ."""
        changed = {}
        for version, section in sections.items():
            path = FAMILIES[version][0]
            before = read(path)
            try:
                after = replace_section(before, section)
            except ValueError as exc:
                self.module.fail_json(msg=f"{path} is not a file of UFW: {exc}. 'ufw reset' writes a new one.")
            if before != after:
                changed[version] = after
                self.note(path, readable(before), readable(after))
        return changed

    def write(self, changed: dict[int, str], states: dict[int, bool | None]) -> None:
        """Writes what differs, once the kernel has tested all of it."""
        for version, text in changed.items():
            if states[version] is not None:
                self.command(FAMILIES[version][2] + "-restore", "-n", "--test", data=text)
        for version, text in changed.items():
            write(FAMILIES[version][0], text)
        settings = read(DEFAULTS)
        if with_settings(settings, POLICY) != settings:
            write(DEFAULTS, with_settings(settings, POLICY))

    def load(
        self, changed: dict[int, str], states: dict[int, bool | None], enabled: bool, sections: dict[int, str]
    ) -> None:
        if not enabled:
            self.command("ufw", "--force", "enable")
        for version, text in changed.items():
            # A chain that the text declares is emptied and filled within one transaction.
            if enabled and states[version] is not None:
                self.command(FAMILIES[version][2] + "-restore", "-n", data=text)
        for _attempt in range(2):
            if False not in [self.live(version, section) for version, section in sections.items()]:
                return
            self.command("ufw", "reload")
        self.module.fail_json(
            msg="UFW was reloaded, and the kernel still lacks some of its rules; see 'ufw status verbose'."
        )


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    firewall = Firewall(module)
    result = firewall.run()
    module.exit_json(changed=bool(firewall.diffs), diff=firewall.diffs if module._diff else [], **result)


if __name__ == "__main__":
    main()

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
  - Ports that containers of Docker publish follow the same rules, on whatever address. Without that they
    pass UFW by. The rules are there before Docker is, and Docker need not be restarted for them.
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
  egress_policy:
    description: Whether the host and its containers may connect to anything, or only to what O(egress_rules) name.
    type: str
    choices: [allow, deny]
    default: allow
  egress_rules:
    description: What may be connected to under V(deny).
    type: list
    elements: dict
    default: []
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
      to:
        description: Addresses and networks, or V(any).
        type: list
        elements: str
        default: []
      name:
        description: Who asked for the rule; becomes its comment.
        type: str
        required: true
  docker_backend:
    description: What Docker makes its rules with, C(firewall-backend) of its C(daemon.json).
    type: str
    choices: [iptables, nftables]
    default: iptables
  guard_seconds:
    description:
      - Keep how the firewall was before its first change.
      - A change is put back after so many seconds, unless M(bulwark.stack.guard)
        has confirmed it by then. V(0) keeps nothing.
    type: int
    default: 0
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
armed: {description: Whether the change waits for its confirmation., returned: always, type: bool}
"""

import ipaddress
import os
import re
import tempfile
from collections import Counter
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._guard import Guard
from ..module_utils._ssh import connection

PORT = {
    "port": {"type": "str", "required": True},
    "proto": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
    "name": {"type": "str", "required": True},
}
SPEC = {
    "guard_seconds": {"type": "int", "default": 0},
    "rules": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            **PORT,
            "from": {"type": "list", "elements": "str", "default": []},
            "action": {"type": "str", "choices": ["allow", "limit"], "default": "allow"},
        },
    },
    "egress_policy": {"type": "str", "choices": ["allow", "deny"], "default": "allow"},
    "egress_rules": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**PORT, "to": {"type": "list", "elements": "str", "default": []}},
    },
    "docker_backend": {"type": "str", "choices": ["iptables", "nftables"], "default": "iptables"},
}


class Family(NamedTuple):
    """What differs between the IP versions: the files of UFW, the prefix of its chains, the program, all addresses."""

    rules: str
    after: str
    prefix: str
    program: str
    everybody: str


FAMILIES = {
    4: Family("/etc/ufw/user.rules", "/etc/ufw/after.rules", "ufw", "iptables", "0.0.0.0/0"),
    6: Family("/etc/ufw/user6.rules", "/etc/ufw/after6.rules", "ufw6", "ip6tables", "::/0"),
}
DEFAULTS = "/etc/default/ufw"
CONF = "/etc/ufw/ufw.conf"
BEGIN = "### RULES ###"
END = "### END RULES ###"
BLOCK_BEGIN = "# BEGIN bulwark.stack: what Docker publishes follows the rules as well"
BLOCK_END = "# END bulwark.stack"
# Docker calls this chain first for everything that is forwarded, and never empties it.
CALLED = "DOCKER-USER"
# Bridges of Docker; those of Kubernetes, whose own traffic is rewritten like a published port's.
BRIDGES = ("docker+", "br-+")
INSIDE = (*BRIDGES, "cali+", "cni+", "flannel+", "vxlan+", "tunl+")
LINKS = "/sys/class/net"


class Rule(NamedTuple):
    action: str
    proto: str
    port: str
    peer: str
    name: str


def networks(texts: list[str], version: int) -> list[str]:
    """The networks of one IP version as UFW writes them: a single address has no mask.

    @raises ValueError: a text is neither V(any) nor an address nor a network
    """
    found = []
    for text in texts:
        if text == "any":
            found.append(FAMILIES[version].everybody)
            continue
        network = ipaddress.ip_network(text, strict=False)
        if network.version == version:
            single = network.prefixlen == network.max_prefixlen
            found.append(str(network.network_address if single else network))
    return found


def expand(rules: list[dict[str, Any]], version: int) -> list[Rule]:
    """One rule per address or network of this IP version, in order; the first of equal ones counts."""
    done: dict[tuple[str, str, str], Rule] = {}
    for rule in rules:
        for peer in networks(rule["to"] if "to" in rule else rule["from"], version):
            key = (rule["proto"], rule["port"], peer)
            done.setdefault(key, Rule(rule.get("action", "allow"), rule["proto"], rule["port"], peer, rule["name"]))
    return list(done.values())


def incoming(rule: Rule, family: Family) -> tuple[str, list[str]]:
    """The line that UFW reads and those that the kernel gets."""
    ports = f"-m multiport --dports {rule.port}" if ":" in rule.port else f"--dport {rule.port}"
    match = f"-A {family.prefix}-user-input -p {rule.proto} {ports}"
    if rule.peer != family.everybody:
        match += f" -s {rule.peer}"
    title = f"{rule.action} {rule.proto} {rule.port} {family.everybody} any {rule.peer} in"
    if rule.action != "limit":
        return title, [f"{match} -j ACCEPT"]
    recent = f"{match} -m conntrack --ctstate NEW -m recent"
    return title, [
        f"{recent} --set",
        f"{recent} --update --seconds 30 --hitcount 6 -j {family.prefix}-user-limit",
        f"{match} -j {family.prefix}-user-limit-accept",
    ]


def outgoing(rule: Rule, family: Family) -> tuple[str, list[str]]:
    """The line that UFW reads and the one that the kernel gets, with its words in UFW's order."""
    peer = f" -d {rule.peer}" if rule.peer != family.everybody else ""
    ports = f" -m multiport --dports {rule.port}{peer}" if ":" in rule.port else f"{peer} --dport {rule.port}"
    title = f"{rule.action} {rule.proto} {rule.port} {rule.peer} any {family.everybody} out"
    return title, [f"-A {family.prefix}-user-output -p {rule.proto}{ports} -j ACCEPT"]


def render(rules: list[Rule], egress: list[Rule], version: int) -> str:
    """The rules section of a file as UFW itself writes it: a comment that it reads, lines that the kernel gets."""
    family = FAMILIES[version]
    both = [(incoming(rule, family), rule) for rule in rules] + [(outgoing(rule, family), rule) for rule in egress]
    blocks = [
        "\n".join([f"### tuple ### {title} comment={rule.name.encode().hex()}", *lines]) + "\n"
        for (title, lines), rule in both
    ]
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


def forwarded(rule: Rule, family: Family, chain: str, port: str, flag: str) -> str:
    """A line that lets a forwarded packet pass to Docker's own rules, with the comment of who asked."""
    peer = f" {flag} {rule.peer}" if rule.peer != family.everybody else ""
    comment = re.sub(r"[^\w .:,/@+-]", "_", rule.name)[:200]
    return f'-A {chain}{peer} -p {rule.proto} {port} -m comment --comment "{comment}" -j RETURN'


def docker_block(rules: list[Rule], egress: list[Rule] | None, version: int, backend: str, outside: list[str]) -> str:
    """What UFW loads besides its rules, so that they hold for what is forwarded to and from containers.

    The port of a rule is the published one, which conntrack remembers when Docker has rewritten the packet. What got
    in without being rewritten came by a route straight to the container.

    @param egress: what containers may connect to, None where that is everything
    @param outside: bridges that have the names of Docker's and a network card in them
    """
    family = FAMILIES[version]
    out = "-g bulwark-egress" if egress is not None else "-j RETURN"
    lines = [
        *(f":{chain} - [0:0]" for chain in (CALLED, "bulwark-docker", "bulwark-published", "bulwark-egress")),
        f"-A {CALLED} -j bulwark-docker",
        "-A bulwark-docker -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
        *(f"-A bulwark-docker -i {link} -g bulwark-published" for link in outside),
        *(f"-A bulwark-docker -i {link} {out if link in BRIDGES else '-j RETURN'}" for link in INSIDE),
        "-A bulwark-docker -g bulwark-published",
    ]
    state = "-m conntrack --ctstate DNAT --ctorigdstport"
    lines += [forwarded(rule, family, "bulwark-published", f"{state} {rule.port}", "-s") for rule in rules]
    lines += [
        "-A bulwark-published -m conntrack --ctstate DNAT -j DROP",
        *(f"-A bulwark-published -o {link} -j RETURN" for link in outside),
        *(f"-A bulwark-published -o {link} -j DROP" for link in BRIDGES),
    ]
    if egress is not None:
        lines += [f"-A bulwark-egress -o {link} -j RETURN" for link in BRIDGES]
        lines += [forwarded(rule, family, "bulwark-egress", f"--dport {rule.port}", "-d") for rule in egress]
        lines.append("-A bulwark-egress -j REJECT")
        # The host reaches its own containers, whatever port they listen on inside.
        lines += [f"-A {family.prefix}-after-output -o {link} -j ACCEPT" for link in BRIDGES]
    if backend == "nftables":
        # Docker then has tables of its own and calls nobody; and what UFW does not accept, it drops.
        lines.append(f"-A {family.prefix}-after-forward -j {CALLED}")
        lines += [
            f"-A {family.prefix}-after-forward {flag} {link} -j ACCEPT" for flag in ["-i", "-o"] for link in BRIDGES
        ]
    return "\n".join([BLOCK_BEGIN, *lines, BLOCK_END]) + "\n"


def replace_block(text: str, block: str) -> str:
    """The text of a file of rules with our block at the end of its table.

    @raises ValueError: the file has no table
    """
    start, end = text.find(BLOCK_BEGIN), text.find(BLOCK_END)
    if start >= 0 and end > start:
        text = text[:start] + text[end + len(BLOCK_END) + 1 :]
    before, found, rest = text.rpartition("COMMIT\n")
    if not found:
        raise ValueError("it has no line COMMIT")
    return before + block + found + rest


def block_of(text: str) -> str:
    start, end = text.find(BLOCK_BEGIN), text.find(BLOCK_END)
    return text[start : end + len(BLOCK_END)] if start >= 0 else ""


def bridges_of_the_host(links: str = LINKS) -> list[str]:
    """Bridges that have the names of Docker's and hold a network card, a VLAN or the like: they lead outside."""
    found = []
    for bridge in sorted(os.listdir(links)) if os.path.isdir(links) else []:
        ports = f"{links}/{bridge}/brif"
        members = os.listdir(ports) if bridge.startswith("br-") and os.path.isdir(ports) else []
        if any(
            os.path.exists(f"{links}/{one}/device") or "DEVTYPE=" in read(f"{links}/{one}/uevent") for one in members
        ):
            found.append(bridge)
    return found


def bypassed(lines: list[str]) -> bool:
    """Whether Docker lets packets through before it asks: old engines do over IPv6, and rules may have been moved."""
    forward = [line.removeprefix("-A FORWARD ") for line in lines if line.startswith("-A FORWARD ")]
    asked = forward.index(f"-j {CALLED}") if f"-j {CALLED}" in forward else len(forward)
    return any("DOCKER" in line and "ISOLATION" not in line for line in forward[:asked])


def readable(text: str) -> str:
    """The rules of a file for people, one on a line."""
    lines = []
    for title in re.findall(r"^### tuple ### (.*)$", text, re.MULTILINE):
        words = title.split()
        comment = ""
        if words[-1].startswith("comment="):
            comment = "  # " + bytes.fromhex(words.pop()[8:]).decode(errors="replace")
        peer = f"to {words[3]}" if words[-1] == "out" else f"from {words[5]}"
        short = " ".join([words[0], f"{words[2]}/{words[1]}", peer]) if len(words) == 7 else " ".join(words)
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
    sources = [FAMILIES[address.version].everybody if text == "any" else text for text in rule["from"]]
    return any(address in ipaddress.ip_network(text, strict=False) for text in sources)


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
    except OSError:
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


class Wanted(NamedTuple):
    """The two files of one IP version as they are to be, by path."""

    rules: str
    after: str

    def chains(self) -> Counter[str]:
        """How many rules of ours each chain has."""
        section = self.rules[self.rules.find(BEGIN) : self.rules.find(END)]
        lines = section.splitlines() + block_of(self.after).splitlines()
        return Counter(line.split()[1] for line in lines if line.startswith("-A ") and CALLED not in line.split()[1])


class Firewall:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.guard = Guard(module, module.params["guard_seconds"])
        self.diffs: list[dict[str, str]] = []
        self.denies = module.params["egress_policy"] == "deny"
        # REJECT, because a program that is told at once can say so at once.
        self.policy = {
            "IPV6": "yes",
            "DEFAULT_INPUT_POLICY": '"DROP"',
            "DEFAULT_OUTPUT_POLICY": '"REJECT"' if self.denies else '"ACCEPT"',
        }

    def command(self, *words: str, data: str | None = None) -> None:
        rc, out, err = self.module.run_command(list(words), data=data, binary_data=False)
        if rc:
            self.module.fail_json(msg=f"'{' '.join(words)}' failed: {(err or out).strip()}")

    def note(self, title: str, before: str, after: str) -> None:
        self.diffs.append({"before_header": title, "after_header": title, "before": before, "after": after})

    def live(self, version: int, wanted: Wanted) -> bool | None:
        """Whether the kernel has the policies and as many rules as the files; None where it cannot filter."""
        family = FAMILIES[version]
        rc, out, _err = self.module.run_command([family.program, "-S"])
        if rc:
            return None
        lines = out.splitlines()
        found = Counter(line.split()[1] for line in lines if line.startswith("-A "))
        frame = [
            "-P INPUT DROP",
            f"-P OUTPUT {'DROP' if self.denies else 'ACCEPT'}",
            f"-A INPUT -j {family.prefix}-before-input",
            f"-A {CALLED} -j bulwark-docker",
        ]
        return (
            not bypassed(lines)
            and all(line in lines for line in frame)
            and all(
                found[chain] >= count if "-after-" in chain else found[chain] == count
                for chain, count in wanted.chains().items()
            )
        )

    def texts(self) -> tuple[dict[int, Wanted], str]:
        """The files of both IP versions as they are to be, and the connection that is kept open."""
        params = self.module.params
        try:
            rules, kept = guarded(params["rules"], connection())
            both = {
                version: (expand(rules, version), expand(params["egress_rules"], version) if self.denies else None)
                for version in FAMILIES
            }
        except ValueError as exc:
            self.module.fail_json(msg=f"ufw_rules: {exc}.")
        outside = bridges_of_the_host()
        done = {}
        for version, (allowed, egress) in both.items():
            family = FAMILIES[version]
            section = render(allowed, egress or [], version)
            block = docker_block(allowed, egress, version, params["docker_backend"], outside)
            if not os.path.exists(CONF):
                done[version] = Wanted(section, block)
                continue
            for path in (family.rules, family.after):
                try:
                    text = (
                        replace_section(read(path), section)
                        if path == family.rules
                        else replace_block(read(path), block)
                    )
                except ValueError as exc:
                    self.module.fail_json(msg=f"{path} is not a file of UFW: {exc}. 'ufw reset' writes a new one.")
                done[version] = Wanted(text, "") if path == family.rules else done[version]._replace(after=text)
        return done, kept

    def run(self) -> dict[str, Any]:
        wanted, kept = self.texts()
        if not os.path.exists(CONF):
            if not self.module.check_mode:
                self.module.fail_json(msg="UFW is not installed on this host; install the package ufw first.")
            for version, one in wanted.items():
                self.note(FAMILIES[version].rules, "", readable(one.rules))
            return {"loaded": False, "kept": kept}
        changed = self.compare(wanted)
        enabled = re.search(r"^ENABLED=yes$", read(CONF), re.MULTILINE | re.IGNORECASE) is not None
        states = {version: self.live(version, one) for version, one in wanted.items()}
        loaded = all(state is not False for version, state in states.items() if version not in changed)
        if states[4] is None:
            self.module.warn("This kernel does not let us filter packets; the rules are written and not in effect.")
        elif not enabled:
            self.note("ufw", "inactive\n", "active\n")
        elif not loaded:
            self.note("ufw", "the kernel lacks rules\n", "the kernel has the rules\n")
        if self.module.check_mode or not self.diffs:
            return {"loaded": enabled and loaded and states[4] is not None, "kept": kept}
        self.guard.before_firewall(os.path.dirname(CONF), DEFAULTS)
        self.apply(wanted, changed, states, enabled)
        return {"loaded": states[4] is not None, "kept": kept}

    def compare(self, wanted: dict[int, Wanted]) -> set[int]:
        """Notes what differs; gives the IP versions whose files do."""
        changed = set()
        for version, one in wanted.items():
            family = FAMILIES[version]
            for path, show, after in ((family.rules, readable, one.rules), (family.after, block_of, one.after)):
                before = read(path)
                if before != after:
                    changed.add(version)
                    self.note(path, show(before), show(after))
        settings = read(DEFAULTS)
        if with_settings(settings, self.policy) != settings:
            self.note(DEFAULTS, settings, with_settings(settings, self.policy))
        return changed

    def apply(
        self, wanted: dict[int, Wanted], changed: set[int], states: dict[int, bool | None], enabled: bool
    ) -> None:
        """Loads and writes what differs, once the kernel has tested all of it.

        The kernel comes before the files: a run that is killed in between finds them different and does it again.
        """
        filtering = {version for version in changed if states[version] is not None}
        for version in filtering:
            family, one = FAMILIES[version], wanted[version]
            frame = "".join(f":{family.prefix}-after-{way} - [0:0]\n" for way in ("output", "forward"))
            self.command(f"{family.program}-restore", "-n", "--test", data=one.rules)
            self.command(
                f"{family.program}-restore", "-n", "--test", data=f"*filter\n{frame}{block_of(one.after)}\nCOMMIT\n"
            )
        for version in filtering if enabled else ():
            # A chain that a text declares is emptied and filled within one transaction.
            for text in (wanted[version].after, wanted[version].rules):
                self.command(f"{FAMILIES[version].program}-restore", "-n", data=text)
        for version in changed:
            write(FAMILIES[version].after, wanted[version].after)
            write(FAMILIES[version].rules, wanted[version].rules)
        settings = read(DEFAULTS)
        if with_settings(settings, self.policy) != settings:
            write(DEFAULTS, with_settings(settings, self.policy))
        if states[4] is not None:
            self.load(wanted, enabled)

    def load(self, wanted: dict[int, Wanted], enabled: bool) -> None:
        if not enabled:
            self.command("ufw", "--force", "enable")
        for _attempt in range(2):
            if False not in [self.live(version, one) for version, one in wanted.items()]:
                return
            self.command("ufw", "reload")
            for family in FAMILIES.values():
                rc, out, _err = self.module.run_command([family.program, "-S", "FORWARD"])
                if not rc and bypassed(out.splitlines()):
                    self.command(family.program, "-I", "FORWARD", "-j", CALLED)
        self.module.fail_json(
            msg="UFW was reloaded, and the kernel still lacks some of its rules; see 'ufw status verbose'."
        )


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    firewall = Firewall(module)
    result = firewall.run()
    module.exit_json(
        changed=bool(firewall.diffs),
        diff=firewall.diffs if module._diff else [],
        armed=firewall.guard.armed,
        **result,
    )


if __name__ == "__main__":
    main()

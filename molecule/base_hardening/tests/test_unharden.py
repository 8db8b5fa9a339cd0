"""The last word: a hardened host goes back to what it was when it was new. What it was is noted by prepare.yml."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLAYBOOK = ROOT / "playbooks/unharden.yml"


def test_a_host_goes_back_to_what_it_was(play, ssh, run, host):
    code, said = play(playbook=PLAYBOOK)
    assert code
    assert "Nothing was changed; add -e base_hardening_unharden_confirmed=yes" in said
    assert "/etc/ssh/sshd_config.d/00-bulwark.conf" in said
    assert host.file("/etc/ssh/sshd_config.d/00-bulwark.conf").exists
    words = ("-e", "base_hardening_unharden_confirmed=yes", "-e", "base_hardening_unharden_packages=yes")
    code, said = play(*words, playbook=PLAYBOOK)
    assert code == 0, said
    assert "Not possible: nothing" in said
    assert not host.package("fail2ban").is_installed
    # What they brought along is for apt to remove.
    run("apt-get -y -qq autoremove --purge")
    before, after = run("cat /root/look.before").splitlines(), run("/root/look").splitlines()
    # UFW leaves its chains in the kernel when it is switched off, empty.
    assert [line for line in sorted(set(after) ^ set(before)) if not re.search(r" ufw6?-", line)] == []
    assert "-P INPUT ACCEPT" in after
    assert not host.file("/var/lib/bulwark-guard").exists
    assert ssh("root").returncode == 0
    code, said = play(playbook=PLAYBOOK)
    assert "Nothing is recorded on this host" in said
    # The way back.
    code, said = play()
    assert code == 0, said
    assert "Permission denied (publickey)" in ssh("root").stderr

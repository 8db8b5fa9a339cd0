"""What level 1 does to people with passwords, tried by one."""

from __future__ import annotations

import pytest

GOOD = "Vq7#mzP2x!Lw9T"
# In one session: each new one ends a lock, as a login with a key does.
TRY = """
try() { printf '%s\\n' "$1" | sudo -S -k id -u 2>/dev/null; }
echo "before $(try '{good}')"
for n in 1 2 3 4 5; do try wrong$n; done
echo "locked $(try '{good}')"
su -c id root </dev/null >/dev/null 2>&1 && echo "became root" || true
"""


@pytest.fixture
def person(host, run):
    if not host.file("/etc/security/pwquality.conf.d/60-bulwark.conf").exists:
        pytest.skip("this host is at baseline")
    run("useradd -m person -s /bin/bash && echo 'person ALL=(ALL) ALL' > /etc/sudoers.d/person")
    yield "person"
    run("faillock --user person --reset; rm /etc/sudoers.d/person /etc/security/opasswd; userdel -rf person", ok=False)


def test_passwords_have_to_be_good_and_wrong_ones_lock(host, run, person):
    assert host.run(f"echo '{person}:short1' | chpasswd").rc != 0
    run(f"echo '{person}:{GOOD}' | chpasswd")
    run(f"cat > /tmp/try.sh <<'X'\n{TRY.replace('{good}', GOOD)}\nX")
    assert run(f"su {person} -c 'bash /tmp/try.sh'").split("\n")[:-1] == ["before 0", "locked "]


def test_root_keeps_its_ways(run):
    run("faillock --user root --reset; su - nobody -s /bin/sh -c true", ok=False)
    assert run("su root -c 'id -u'").strip() == "0"
    assert run("sudo -n sh -c umask").strip() == "0022"

"""A hardened host, seen from outside: over SSH from the controller and over the network from the other test host."""

from __future__ import annotations

import contextlib
import socket
import time

from reach import KEY, NO_QUESTIONS, RULES, declared, reaches

# -- SSH


def test_admin_comes_in_with_a_key_and_becomes_root(ssh):
    assert ssh("deploy", "sudo -n id -u").stdout.strip() == "0"


def test_root_is_refused(ssh):
    assert "Permission denied (publickey)" in ssh("root").stderr


def test_passwords_are_refused_whatever_cloud_init_says(host, ssh):
    assert host.file("/etc/ssh/sshd_config.d/50-cloud-init.conf").contains("PasswordAuthentication yes")
    done = ssh("deploy", "true", "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password")
    # What ssh lists is what the server offers.
    assert "Permission denied (publickey)." in done.stderr


def test_key_exchange_withstands_quantum_computers(ssh):
    chatter = ssh("deploy", "true", "-v").stderr
    assert "kex: algorithm: mlkem768x25519" in chatter or "kex: algorithm: sntrup761x25519" in chatter


def test_weak_algorithms_are_refused(ssh):
    assert "no matching" in ssh("deploy", "true", "-o", "Ciphers=aes256-ctr", "-o", "MACs=hmac-sha1").stderr


def test_keys_are_exactly_the_declared_ones(run):
    assert run("cat /home/deploy/.ssh/authorized_keys").strip() == KEY.with_suffix(".pub").read_text().strip()


# -- firewall


def test_declared_ports_are_open_and_all_others_closed(listening, stranger, address):
    open_ports = [port for port in (22, 8080, 8081, 8082, 8443) if reaches(stranger, address, port)]
    assert open_ports == [22, 8080]


def test_ssh_comes_first_and_comments_tell_who_asked(run):
    lines = [line for line in run("ufw status").splitlines() if "ALLOW" in line]
    assert lines[0].split()[:1] + lines[0].split()[-2:] == ["22/tcp", "#", "ssh"]
    assert any("8081/tcp" in line and "192.0.2.0/24" in line and "# office" in line for line in lines)
    assert any("2001:db8::/32" in line for line in lines)
    assert not any("8443" in line for line in lines)


def test_ufw_reads_the_rules_as_its_own(run):
    before = run("cat /etc/ufw/user.rules /etc/ufw/user6.rules")
    run("ufw allow 9999/tcp && ufw delete allow 9999/tcp")
    assert run("cat /etc/ufw/user.rules /etc/ufw/user6.rules") == before


def test_change_of_rules_cuts_no_connection(listening, ufw_rules, address, stranger):
    with socket.create_connection((address, 8080), timeout=5) as connection:
        assert ufw_rules(declared(RULES[1:]))["changed"]
        assert not reaches(stranger, address, 8080)
        connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.0 200"
    foretold = ufw_rules(declared(), "--check")
    assert foretold["changed"]
    assert ufw_rules(declared())["changed"]
    assert not ufw_rules(declared())["changed"]
    assert reaches(stranger, address, 8080)


def test_rules_that_the_kernel_lost_come_back(run, ufw_rules, stranger, address, listening):
    run("iptables -F ufw-user-input; iptables -P INPUT ACCEPT")
    assert ufw_rules(declared())["changed"]
    assert not reaches(stranger, address, 8443)


def test_rules_never_lock_out_who_applies_them(run, ufw_rules):
    before = run("ufw status")
    refused = ufw_rules([{"port": "22", "from": ["192.0.2.7"], "name": "ssh"}])
    assert "over which this very run came" in refused["msg"]
    assert run("ufw status") == before


# -- bans


def test_repeated_failures_are_banned(host, stranger, address, run):
    assert "Currently banned" in run("fail2ban-client status sshd")
    assert reaches(stranger, address, 22)
    for attempt in range(4):
        # A connection that is cut by the ban hangs.
        stranger("timeout", "3", "ssh", *NO_QUESTIONS, f"guess{attempt}@{address}")
    try:
        for _wait in range(20):
            if not reaches(stranger, address, 22):
                break
            time.sleep(0.5)
        assert run("fail2ban-client get sshd banip").strip()
        assert not reaches(stranger, address, 22)
    finally:
        run("fail2ban-client unban --all")
    assert reaches(stranger, address, 22)


# -- the rest of the base


def test_services_run(running):
    for unit in ("ufw.service", "fail2ban.service", "apt-daily-upgrade.timer"):
        running(unit)


def test_security_updates_leave_stateful_services_alone(run):
    # Asks the program itself, which a dry run would do too, in twenty seconds.
    load = (
        "from importlib.machinery import SourceFileLoader as L; u = L('u', '/usr/bin/unattended-upgrade').load_module()"
    )
    ask = "print(u.get_allowed_origins()); print(u.apt_pkg.config.value_list('Unattended-Upgrade::Package-Blacklist'))"
    origins, kept = run(f'python3 -W ignore -c "{load}; {ask}"').strip().splitlines()[-2:]
    assert "-security,label=Debian-Security" in origins
    assert origins.count("origin=") == 1
    assert "postgresql" in kept
    assert 'Automatic-Reboot "false"' in run("apt-config dump Unattended-Upgrade::Automatic-Reboot")


def test_journal_is_kept_and_capped(run):
    # journald says so itself when it opens the journal on disk.
    assert "max 512" in run("journalctl --no-pager -b _COMM=systemd-journal | grep '/var/log/journal' | tail -1")


def test_kernel_parameters_are_in_effect(run):
    assert run("cat /proc/sys/net/ipv4/conf/all/accept_redirects").strip() == "0"
    # Those of the machine are not a container's to set.
    assert "kernel." not in run("cat /etc/sysctl.d/60-base-hardening.conf")


def test_time(host, run):
    assert host.run("systemctl is-enabled systemd-timesyncd").stdout.strip() == "enabled"
    assert run("date +%Z").strip() == "UTC"


# -- runs that end in one sentence


@contextlib.contextmanager
def guest(run):
    """Somebody who may log in and not become root."""
    run("useradd -m guest && install -d -o guest -m 700 /home/guest/.ssh")
    run("install -o guest -m 600 /home/deploy/.ssh/authorized_keys /home/guest/.ssh/authorized_keys")
    try:
        yield
    finally:
        run("pkill -u guest; userdel -rf guest", ok=False)


def test_user_without_sudo(play, run):
    with guest(run):
        code, said = play(user="guest")
    assert code
    assert "sudo asks guest for a password and none was given; run with --ask-become-pass" in said


def test_host_that_lets_nobody_in(play):
    code, said = play(user="nobody-here", base_hardening_first_users=["root"])
    assert code
    assert "lets nobody in: neither nobody-here nor root (base_hardening_first_users)" in said


def test_host_that_does_not_answer(play):
    code, said = play(port=1, base_hardening_connect_seconds=2, ansible_timeout=2)
    assert code
    assert "does not answer on port 1 within 2 s (base_hardening_connect_seconds)" in said


def test_host_that_stays_busy(play, run):
    run("rm /run/cloud-init/result.json")
    try:
        code, said = play(base_hardening_wait_seconds=3)
    finally:
        run("touch /run/cloud-init/result.json")
    assert code
    assert "still busy after 3 s (base_hardening_wait_seconds): cloud-init" in said


def test_nobody_who_could_come_in(play):
    code, said = play(bulwark_admin_users=[{"name": "deploy", "keys": []}])
    assert code
    assert "no admin user with a key would remain" in said


# -- another port, and back


def test_ssh_moves_to_another_port(name, play, ssh, run, ufw_rules, stranger, address, through_socket):
    activated = name.endswith("13")
    if activated:
        through_socket()
    code, said = play(base_hardening_ssh_port=2222)
    assert code == 0, said
    assert "set ansible_port to 2222 and run again" in said
    assert ssh("deploy", "sudo -n id -u", port=2222).stdout.strip() == "0"
    assert run("systemctl is-enabled ssh.socket || true").strip() == ("enabled" if activated else "disabled")
    code, said = play(port=2222)
    assert code == 0, said
    assert ssh("deploy").returncode == 0
    # The old port stayed open for the run that came in over it, and goes with the next one.
    assert "2222" in run("ufw status")
    ufw_rules(declared())
    assert not reaches(stranger, address, 2222)
    assert "2222" not in run("ufw status")

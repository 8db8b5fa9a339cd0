#!/bin/bash
# Runs sshd for one user who sees /home of a space of its own and nothing else, on ports 22 and 23, as a storage box does.
set -eu
rm -f /store/ready
install -d -m 0755 /run/sshd
id -u "$STORE_USER" >/dev/null 2>&1 ||
  useradd --no-create-home --shell /usr/sbin/nologin --password '*' "$STORE_USER"
install -d -o "$STORE_USER" /srv/box/home
install -m 0600 /store/host_key /etc/ssh/store_host_key
install -m 0644 /store/key.pub /etc/ssh/store_authorized_keys
cat >/etc/ssh/store_config <<CONF
Port 22
Port 23
HostKey /etc/ssh/store_host_key
AllowUsers $STORE_USER
AuthorizedKeysFile /etc/ssh/store_authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
DisableForwarding yes
PermitTTY no
Subsystem sftp internal-sftp
ChrootDirectory /srv/box
ForceCommand internal-sftp -d /home
CONF
/usr/sbin/sshd -t -f /etc/ssh/store_config
/usr/sbin/sshd -D -e -f /etc/ssh/store_config &
for port in 22 23; do
  until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do kill -0 $!; sleep 0.1; done
done
touch /store/ready
wait

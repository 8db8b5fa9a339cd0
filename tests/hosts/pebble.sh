#!/bin/sh
# Runs Pebble, a real ACME server for tests, on this Debian host; pebble.json lies beside this script.
# Usage: pebble.sh [NAME...]   further names under which clients reach it, beside localhost
# Clients use https://NAME:14000/dir and trust /etc/pebble/ca.pem. Its certificates chain to https://NAME:15000/roots/0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v pebble >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pebble openssl curl >/dev/null
}
mkdir -p /etc/pebble
cd /etc/pebble
install -m 0644 "$here/pebble.json" pebble.json
names=DNS:localhost,IP:127.0.0.1
for name in "$@"; do names=$names,DNS:$name; done
if [ "$(cat names 2>/dev/null)" != "$names" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj '/CN=Test ACME server' \
    -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout key.pem -out request.pem 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >extensions
  openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile extensions -out cert.pem 2>/dev/null
  chmod 0644 cert.pem ca.pem
  printf %s "$names" >names
fi
cat >/etc/systemd/system/pebble.service <<UNIT
[Unit]
Description=Pebble ACME server for tests
After=network.target

[Service]
# No waiting before a validation, and no deliberate refusals: those test clients, and certbot is not what is tested.
Environment=PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
ExecStart=/usr/bin/pebble -config /etc/pebble/pebble.json
Restart=on-failure

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet pebble.service
systemctl restart pebble.service
for _ in $(seq 60); do
  curl -sf --cacert ca.pem https://localhost:14000/dir >/dev/null && exit 0
  sleep 0.5
done
systemctl status --no-pager pebble.service
exit 1

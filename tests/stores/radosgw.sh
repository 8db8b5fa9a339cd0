#!/bin/bash
# Runs one Ceph object gateway with its monitor and its disk in this container; ends when one of them does.
# STORE_KIND         memstore (fresh at every start) or bluestore (a file of STORE_BYTES in /data; survives a restart)
# STORE_DAY_SECONDS  the length of a day of lifecycle rules; -1 for a real one
# STORE_KEY, STORE_SECRET, WRITER_KEY, WRITER_SECRET  the users "owner" and "writer"
# /store holds cert.pem and key.pem, and gets the file "ready".
set -eu
[ -e /.dockerenv ] || { echo "This fills /etc/ceph and /data: it runs in a container of its own only." >&2; exit 1; }
rm -f /store/ready
until [ -s /store/cert.pem ]; do sleep 0.1; done
# What was not made to its end is made again.
fresh=
[ "$STORE_KIND" = bluestore ] && [ -e /data/made ] || { fresh=yes; rm -rf /data/*; }
mkdir -p /data/mon /data/osd /data/rgw /run/ceph /etc/ceph
[ -z "$fresh" ] || cat /proc/sys/kernel/random/uuid >/data/fsid

# One copy, one disk, nobody else in this network: no authentication inside, and no waiting for other monitors' votes.
cat >/etc/ceph/ceph.conf <<CONF
[global]
fsid = $(cat /data/fsid)
mon host = 127.0.0.1:6789
public addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
paxos propose interval = 0.02
paxos min wait = 0.01
log to file = false
log to stderr = false
mon cluster log to file = false
[mon]
mon data = /data/mon
[osd]
osd data = /data/osd
osd objectstore = $STORE_KIND
memstore device bytes = $STORE_BYTES
bluestore block size = $STORE_BYTES
bluestore block create = true
osd memory target = 1073741824
[client.rgw.store]
rgw data = /data/rgw
rgw frontends = beast endpoint=127.0.0.1:7480 ssl_port=443 ssl_certificate=/store/cert.pem ssl_private_key=/store/key.pem tcp_nodelay=1
rgw gc obj min wait = 5
rgw gc processor period = 10
rgw gc processor max time = 10
rgw lc debug interval = $STORE_DAY_SECONDS
rgw bucket quota ttl = 0
rgw user quota bucket sync interval = 1
rgw user quota sync interval = 1
CONF
as_root=(--setuser root --setgroup root)
admin() { radosgw-admin -n client.rgw.store "$@"; }

if [ "$fresh" ]; then
  monmaptool --clobber --create --add a 127.0.0.1:6789 --fsid "$(cat /data/fsid)" /run/monmap >/dev/null
  ceph-mon -i a --mkfs --monmap /run/monmap
fi
ceph-mon -i a -f "${as_root[@]}" &
if [ "$fresh" ]; then
  cat /proc/sys/kernel/random/uuid >/data/osd.uuid
  ceph osd new "$(cat /data/osd.uuid)" >/dev/null
  ceph-osd -i 0 --mkfs --osd-uuid "$(cat /data/osd.uuid)" "${as_root[@]}" 2>/dev/null
fi
# ceph-osd 18 sometimes aborts while it starts, so it gets five tries; later its end is the end of the store.
for try in 1 2 3 4 5; do
  ceph-osd -i 0 -f "${as_root[@]}" 2>/run/osd.log &
  osd=$!
  while kill -0 $osd 2>/dev/null; do
    ceph osd stat 2>/dev/null | grep -q ' 1 up' && break 2
    sleep 0.1
  done
  wait $osd || true
  echo "The disk aborted while it started (try $try)."
done
radosgw -n client.rgw.store -f "${as_root[@]}" &
until (exec 3<>/dev/tcp/127.0.0.1/443) 2>/dev/null; do kill -0 $!; sleep 0.1; done
if [ "$fresh" ]; then
  admin user create --uid=owner --display-name=owner --access-key="$STORE_KEY" --secret-key="$STORE_SECRET" >/dev/null
  admin user create --uid=writer --display-name=writer --max-buckets=-1 --access-key="$WRITER_KEY" --secret-key="$WRITER_SECRET" >/dev/null
  touch /data/made
fi
python3 /opt/stores/faults.py --tls /store/cert.pem /store/key.pem &
until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do kill -0 $!; sleep 0.1; done
touch /store/ready
wait -n
echo "A daemon of the store ended." >&2
exit 1

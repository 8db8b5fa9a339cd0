#!/bin/bash
# Runs the B2 server and the proxy in front of it; ends when one of them does. /store as for radosgw.sh.
set -eu
rm -f /store/ready
until [ -s /store/cert.pem ]; do sleep 0.1; done
python3 /opt/stores/b2.py --tls /store/cert.pem /store/key.pem &
python3 /opt/stores/faults.py --json --tls /store/cert.pem /store/key.pem &
for port in 443 8080; do
  until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do kill -0 $!; sleep 0.1; done
done
touch /store/ready
wait -n
echo "The store ended." >&2
exit 1

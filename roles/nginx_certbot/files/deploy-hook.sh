#!/bin/sh
# Managed by Ansible (bulwark.stack.nginx_certbot).
# Hands a certificate that certbot got or renewed to nginx. Runs after each renewal and after the first issue.
set -eu
link=/etc/nginx/certificates/$(basename "$RENEWED_LINEAGE")

# A certificate that no site of nginx uses is not our business.
[ -L "$link" ] || exit 0

if [ "$(readlink "$link")" != "$RENEWED_LINEAGE" ]; then
  ln -sfn "$RENEWED_LINEAGE" "$link.new"
  mv -T "$link.new" "$link"
fi
nginx -t -q
if systemctl is-active --quiet nginx; then systemctl reload nginx; fi

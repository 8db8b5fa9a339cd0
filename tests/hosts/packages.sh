#!/bin/sh
# What one test host has downloaded, the next one need not: a volume that all of them mount. apt calls this.
# A file there ends in the SHA-256 of its content, because apt believes a package in its folder by the size alone.
set -eu
[ -d /var/cache/bulwark-packages ] || exit 0
. /etc/os-release
shared=/var/cache/bulwark-packages/$VERSION_CODENAME
mkdir -p "$shared"
case $1 in
  link) # before the lists are updated, which every new host does first
    cd "$shared"
    for file in *.deb.*; do echo "${file##*.}  $file"; done | sha256sum --check 2>/dev/null | sed -n 's/: OK$//p' |
      while read -r file; do ln -sf "$shared/$file" "/var/cache/apt/archives/${file%.*}"; done ;;
  keep) # before dpkg runs: all is downloaded by then, and apt has checked it
    find "$shared" -type f -mtime +60 -delete
    find /var/cache/apt/archives -maxdepth 1 -type f -name '*.deb' | while read -r file; do
      sum=$(sha256sum <"$file")
      # Under its name only once it is whole: other hosts read here at the same time.
      new=$(mktemp "$shared/.new-XXXXXX")
      cp "$file" "$new"
      chmod 0644 "$new"
      mv "$new" "$shared/${file##*/}.${sum%% *}"
    done ;;
esac

#!/usr/bin/env bash
# Makes what the test hosts need: a Docker engine that runs, and one image per distribution.
# Usage: setup.sh [debian12 debian13 ubuntu2204 ubuntu2404]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

engine() {
  if ! command -v dockerd >/dev/null && ! docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
      { echo "No Docker engine: install one, or run this as root on Debian or Ubuntu." >&2; exit 1; }
    echo "Installing the Docker engine"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null
  fi
  docker info >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || { echo "The Docker engine does not answer; is it started, and are you in the group docker?" >&2; exit 1; }
  if [ "$(cat /proc/1/comm)" = systemd ]; then
    systemctl start docker
  else
    # Detached: the engine outlives this script, as a service would.
    setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  fi
  for _ in $(seq 60); do docker info >/dev/null 2>&1 && return; sleep 1; done
  echo "The Docker engine did not start; see /var/log/dockerd.log or 'journalctl -u docker'." >&2
  exit 1
}

# What a cloud image brings, and no more.
packages=systemd,systemd-sysv,dbus,udev,libpam-systemd,openssh-server,sudo,python3,python3-apt,ca-certificates,iproute2,iputils-ping,procps,kmod,curl,cron,less,locales

base_image() { # name -> an image bulwark-base:name
  case $1 in
    debian12) official=debian:bookworm suite=bookworm ;;
    debian13) official=debian:trixie suite=trixie ;;
    ubuntu2204) official=ubuntu:jammy suite=jammy ;;
    ubuntu2404) official=ubuntu:noble suite=noble ;;
    *) echo "There is no test image '$1'; known are debian12 debian13 ubuntu2204 ubuntu2404." >&2; exit 2 ;;
  esac
  if timeout 120 docker pull -q "$official" >/dev/null 2>&1; then
    printf 'FROM %s\nRUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends %s\n' \
      "$official" "${packages//,/ }" | docker build -q -t "bulwark-base:$1" - >/dev/null
    return
  fi
  command -v mmdebstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null; }
  mirrors=()
  case $1 in ubuntu*) mirrors=(http://archive.ubuntu.com/ubuntu) ;; esac
  mmdebstrap --quiet --variant=minbase --include=$packages "$suite" - "${mirrors[@]}" | docker import - "bulwark-base:$1" >/dev/null
}

recipe_files="Dockerfile test-host.service packages.sh packages.conf"

image() {
  recipe=$(cd "$here" && cat $recipe_files | sha256sum | cut -c1-16)
  [ "$(docker image inspect -f '{{index .Config.Labels "recipe"}}' "bulwark-host:$1" 2>/dev/null)" = "$recipe" ] && return
  echo "Building the test image $1"
  docker image inspect "bulwark-base:$1" >/dev/null 2>&1 || base_image "$1"
  context=$(mktemp -d)
  trap 'rm -rf "$context"' RETURN
  (cd "$here" && cp $recipe_files "$context/")
  mkdir "$context/ca"
  # A host trusts what the controller trusts; this matters behind proxies that inspect TLS.
  cp /usr/local/share/ca-certificates/*.crt "$context/ca/" 2>/dev/null || true
  {
    echo "[global]"
    echo "cert = /etc/ssl/certs/ca-certificates.crt"
    index=$(python3 -m pip config get global.index-url 2>/dev/null || true)
    case ${PIP_INDEX_URL:-$index} in http*) echo "index-url = ${PIP_INDEX_URL:-$index}" ;; esac
  } >"$context/pip.conf"
  DOCKER_BUILDKIT=0 docker build -q --label "recipe=$recipe" --build-arg "BASE=bulwark-base:$1" -t "bulwark-host:$1" "$context" >/dev/null 2>&1
}

engine
for name in "${@:-debian12 debian13}"; do
  for one in $name; do image "$one"; done
done

#!/bin/sh
# Makes a fresh Debian of the release of this machine, with systemd, and with the packages of Debian that
# tests install or start there: the container has no network to fetch them.
#
#   fetch-debian.sh CACHE
#
# Prints its directory below CACHE. If it exists already, nothing is downloaded.
set -eu
umask 022
export LC_ALL=C
shared=$(dirname "$0")/../../support/debian-packages.sh
. "$shared"

[ $# = 1 ] || fail 'Usage: fetch-debian.sh CACHE'
cache=$(cd "$1" && pwd)
makeOnce "$cache" debian "$0" "$shared"

need mmdebstrap mmdebstrap
key=/usr/share/keyrings/debian-archive-keyring.gpg
apt-get indextargets --format "deb [signed-by=$key] \$(REPO_URI) \$(RELEASE) main" \
  'Created-By: Packages' 'Origin: Debian' | sort -u >"$cache/sources.list"
[ -s "$cache/sources.list" ] || fail 'apt knows no Debian archive: run "apt-get update" first.'
rm -rf "$cache/debian"
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,iproute2,ipxe,firewalld,netbase \
  --dpkgopt=force-unsafe-io --customize-hook='chroot "$1" systemctl --quiet disable firewalld' \
  '' "$cache/debian" "$cache/sources.list" >&2
finish

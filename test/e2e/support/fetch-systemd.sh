#!/bin/sh
# Downloads a systemd as new as that of NixOS from a newer Debian, with its libraries.
#
#   fetch-systemd.sh CACHE
#
# Packages are downloaded and unpacked below CACHE, never installed. Prints the directory. If it
# exists already, nothing is downloaded.
set -eu
export LC_ALL=C
shared=$(dirname "$0")/../../support/debian-packages.sh
. "$shared"

suite=trixie
packages='
  systemd libsystemd-shared libacl1 libaudit1 libblkid1 libc6 libcap-ng0 libcap2 libcrypt1 libmount1
  libpam0g libpcre2-8-0 libseccomp2 libselinux1 libssl3t64 libzstd1 zlib1g
'

[ $# = 1 ] || fail 'Usage: fetch-systemd.sh CACHE'
cache=$(cd "$1" && pwd)
out=$cache/unpacked
makeOnce "$cache" unpacked "$0" "$shared"

apt=$cache/apt
debs=$cache/debs
rm -rf "$out" "$apt" "$debs"
mkdir -p "$out" "$debs"
openApt "$apt" amd64 main $suite
(cd "$debs" && apt-get download -qq $(printf "%s/$suite " $packages) >&2)
for deb in "$debs"/*.deb; do dpkg-deb --extract "$deb" "$out"; done

rm -rf "$apt" "$debs"
finish

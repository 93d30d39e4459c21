#!/bin/bash
# Downloads the newest Nix of Debian (sid), with its libraries.
#
#   fetch-nix.sh CACHE
#
# Packages are downloaded and unpacked below CACHE, never installed. Prints the directory. If it
# exists already, nothing is downloaded.
set -eu
export LC_ALL=C
shared=$(dirname "$0")/../test/support/debian-packages.sh
. "$shared"

suite=sid

# A mirror may be older than this suite allows.
apt-get() { command apt-get -o Acquire::Check-Valid-Until=false "$@"; }

[ $# = 1 ] || fail 'Usage: fetch-nix.sh CACHE'
mkdir -p "$1"
cache=$(cd "$1" && pwd)
out=$cache/unpacked
makeOnce "$cache" unpacked "$0" "$shared"

apt=$cache/apt
debs=$cache/debs
rm -rf "$out" "$apt" "$debs"
mkdir -p "$out" "$debs"
openApt "$apt" amd64 main $suite
packages=$(apt-get install --simulate --target-release $suite nix-bin |
  sed -n 's/^Inst \(nix-bin\|lib[^ ]*\|zlib1g\) .*/\1/p' | grep -v perl)
(cd "$debs" && apt-get download -qq $(printf "%s/$suite " $packages) >&2)
for deb in "$debs"/*.deb; do dpkg-deb --extract "$deb" "$out"; done

rm -rf "$apt" "$debs"
finish

#!/bin/sh
# Downloads a second kernel from Debian, for tests of updates. It is newer than that of prepare.sh.
#
#   other-kernel.sh CACHE SYSTEM    SYSTEM: x86_64-linux or aarch64-linux
#
# Prints a directory for system.nix, which has version, image and lib/modules. If the directory
# exists already, nothing is downloaded.
set -eu
export LC_ALL=C
shared=$(dirname "$0")/../../test/support/debian-packages.sh
kernels=$(dirname "$0")/debian-kernel.sh
. "$shared"
. "$kernels"

[ $# = 2 ] || fail 'Usage: other-kernel.sh CACHE SYSTEM'
mkdir -p "$1"
cache=$(cd "$1" && pwd)
case $2 in
  x86_64-linux) architecture=amd64 ;;
  aarch64-linux) architecture=arm64 ;;
  *) fail "The system is \"$2\" and must be x86_64-linux or aarch64-linux." ;;
esac

work=$cache/other-kernel-$2
out=$work/kernel
mkdir -p "$work"
makeOnce "$work" kernel "$0" "$shared" "$kernels"

PATH=$PATH:/usr/sbin:/sbin
need depmod kmod

apt=$work/apt
debs=$work/debs
unpacked=$work/unpacked
rm -rf "$out" "$apt" "$debs" "$unpacked"
mkdir -p "$debs" "$unpacked" "$out"
openApt "$apt" $architecture main
(cd "$debs" && apt-get download -qq "$(kernelOf linux-image-6.12-cloud-$architecture)" >&2)
dpkg-deb --extract "$debs"/*.deb "$unpacked"
copyKernel "$unpacked" "$out"

rm -rf "$apt" "$debs" "$unpacked"
finish

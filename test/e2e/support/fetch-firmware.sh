#!/bin/sh
# Downloads from Debian the programs that machines run before the kernel: firmware, loaders, and
# systemd's stub. (The Raspberry Pi's firmware is in the component non-free-firmware.)
#
#   fetch-firmware.sh CACHE
#
# Packages of several architectures are downloaded and unpacked below CACHE, never installed. Prints
# the directory, which has one folder for each package. If it exists already, nothing is downloaded.
set -eu
export LC_ALL=C
shared=$(dirname "$0")/../../support/debian-packages.sh
. "$shared"

# In older suites of Debian, iPXE has no loader for arm64.
newer=trixie
packages="
  ipxe:all/$newer
  ovmf:all pxelinux:all qemu-efi-aarch64:all raspi-firmware:all syslinux-common:all u-boot-qemu:all
  systemd-boot-efi:amd64 systemd-boot-efi:arm64
"

[ $# = 1 ] || fail 'Usage: fetch-firmware.sh CACHE'
cache=$(cd "$1" && pwd)
out=$cache/unpacked
makeOnce "$cache" unpacked "$0" "$shared"

apt=$cache/apt
debs=$cache/debs
rm -rf "$out" "$apt" "$debs"
mkdir -p "$out" "$debs"
openApt "$apt" 'amd64 arm64' 'main non-free-firmware' $newer
# apt treats packages for all architectures as packages of the first one.
(cd "$debs" && apt-get download -qq $(echo $packages | sed 's/:all//g') >&2)

for package in $packages; do
  package=${package%/*}
  name=${package%:*}
  architecture=${package#*:}
  case $architecture in
    all) directory=$name ;;
    *) directory=$name-$architecture ;;
  esac
  mkdir "$out/$directory"
  dpkg-deb --extract "$debs/${name}"_*_"$architecture.deb" "$out/$directory"
done

rm -rf "$apt" "$debs"
finish

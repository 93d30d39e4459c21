#!/bin/sh
# Makes the base of the OCI image from Debian's packages: the libraries of Node, and a shell with its
# small programs, which commands such as populateRootCommands need.
#
#   fetch-base.sh WORK ARCHITECTURE
#
# ARCHITECTURE: amd64 or arm64, also on a computer of the other kind: nothing of it is run here. Prints a
# directory with `root`, and `packages`: name, version and architecture of each package.
set -eu
umask 022
export LC_ALL=C
shared=$(dirname "$0")/../test/support/debian-packages.sh
. "$shared"

packages='libc6 libgcc-s1 libstdc++6 busybox-static'
applets='
  awk basename cat chmod chown cp cut date dirname env expr find grep gunzip gzip head id install ln ls mkdir
  mktemp mv printf ps pwd readlink rm rmdir sed sh sleep sort stat sync tail tar tee test touch tr uname wc xargs
'

[ $# = 2 ] || fail 'Usage: fetch-base.sh WORK ARCHITECTURE'
mkdir -p "$1"
work=$(cd "$1" && pwd)
makeOnce "$work" "base" "$0" "$shared"

apt=$work/apt
debs=$work/debs
root=$work/base/root
rm -rf "$work/base" "$apt" "$debs"
mkdir -p "$root" "$debs"
openApt "$apt" "$2" main
(cd "$debs" && apt-get download -qq $packages >&2)
for deb in "$debs"/*.deb; do
  dpkg-deb --show --showformat='${Package}\t${Version}\t${Architecture}\n' "$deb"
  dpkg-deb --extract "$deb" "$root"
done >"$work/base/packages"
# Licences stay; other documents, and the tables for character sets, are not needed.
find "$root/usr/share" -type f ! -name copyright -delete
find "$root" -type d -name gconv -exec rm -r {} +
find "$root" -type d -empty -delete

mkdir -p "$root/etc" "$root/root" "$root/tmp" "$root/var/lib/netimage"
chmod 1777 "$root/tmp"
chmod 0700 "$root/root" "$root/var/lib/netimage"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
for applet in $applets; do ln -s busybox "$root/bin/$applet"; done

rm -rf "$apt" "$debs"
finish

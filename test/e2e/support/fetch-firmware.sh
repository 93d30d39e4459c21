#!/bin/sh
# Fetch from Debian what machines run before the kernel: firmware, loaders, and systemd's stub. (The
# Raspberry Pi's firmware is in the archive's component non-free-firmware.)
#
#   fetch-firmware.sh CACHE
#
# Packages are downloaded and unpacked below CACHE, never installed, through an apt of our own that
# knows only the machine's Debian archives: so those of another architecture can be fetched too.
# Prints the directory, with one folder for each package; a second call finds it there and is done.
set -eu
export LC_ALL=C

packages='
  ipxe:all ovmf:all pxelinux:all qemu-efi-aarch64:all raspi-firmware:all syslinux-common:all
  u-boot-qemu:all
  systemd-boot-efi:amd64 systemd-boot-efi:arm64
'

fail() {
  echo "fetch-firmware.sh: $*" >&2
  exit 1
}

[ $# = 1 ] || fail 'Usage: fetch-firmware.sh CACHE'
cache=$(cd "$1" && pwd)
out=$cache/unpacked
# Tests that run side by side share a cache.
exec 9>"$cache/lock"
flock 9
stamp=$(cksum <"$0")
if [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "$out"
  exit
fi

for program in apt-get dpkg-deb; do
  command -v $program >/dev/null ||
    fail "The program \"$program\" is missing: firmware comes from Debian's packages."
done

apt=$cache/apt
debs=$cache/debs
rm -rf "$out" "$apt" "$debs"
mkdir -p "$out" "$debs" "$apt/state/lists/partial" "$apt/cache/archives/partial" \
  "$apt/etc/apt.conf.d" "$apt/etc/preferences.d"
: >"$apt/state/status"
apt-get indextargets --format 'deb [signed-by=KEYRING] $(REPO_URI) $(RELEASE) $(COMPONENT)' \
  'Created-By: Packages' 'Origin: Debian' |
  sed 's,KEYRING,/usr/share/keyrings/debian-archive-keyring.gpg,; s/ main$/ main non-free-firmware/' |
  sort -u >"$apt/etc/sources.list"
[ -s "$apt/etc/sources.list" ] || fail 'apt knows no Debian archive: run "apt-get update" first.'
cat >"$apt/apt.conf" <<EOF
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$apt/state";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Dir::Etc "$apt/etc";
EOF
export APT_CONFIG="$apt/apt.conf"
apt-get update -qq >&2
# To apt, what fits every architecture is of the first one.
(cd "$debs" && apt-get download -qq $(echo $packages | sed 's/:all//g') >&2)

for package in $packages; do
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
printf %s "$stamp" >"$cache/stamp"
echo "$out"

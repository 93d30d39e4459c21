#!/bin/sh
# Makes a machine from Debian's packages that serves NFS by its kernel: a kernel, and an initrd with
# all its programs.
#
#   fetch-nfs-server.sh CACHE
#
# Packages are downloaded and unpacked below CACHE, never installed: this machine must not become an
# NFS server. Prints the directory with `kernel` and `initrd`. If it exists already, nothing is
# downloaded.
set -eu
export LC_ALL=C
here=$(dirname "$0")
shared=$here/../../support/debian-packages.sh
. "$shared"

# In the order of loading: the dependencies of a module come before it.
modules='virtio_pci virtio_blk virtio_net virtio_rng ext4 nfsd'

[ $# = 1 ] || fail 'Usage: fetch-nfs-server.sh CACHE'
cache=$(cd "$1" && pwd)
out=$cache/nfs-server
init=$here/nfs-server-init.sh
makeOnce "$cache" nfs-server "$0" "$shared" "$init"

PATH=$PATH:/usr/sbin:/sbin
need modprobe kmod
need cpio cpio

apt=$cache/apt
debs=$cache/debs
root=$cache/root
unpacked=$cache/unpacked
rm -rf "$out" "$apt" "$debs" "$root" "$unpacked"
mkdir -p "$out" "$debs" "$root" "$unpacked/kernel" "$unpacked/programs"
openApt "$apt" amd64 main
kernel=$(apt-cache depends linux-image-cloud-amd64 |
  sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
[ -n "$kernel" ] || fail 'Debian has no linux-image-cloud-amd64.'
# Only shared libraries, and the table of transports that the RPC library reads.
libraries=$(apt-get install --simulate nfs-kernel-server rpcbind |
  sed -n 's/^Inst \(lib[^ ]*\|zlib1g\) .*/\1/p' | grep -v -E 'perl|python')
(cd "$debs" &&
  apt-get download -qq $kernel busybox-static nfs-kernel-server rpcbind netbase $libraries >&2)

dpkg-deb --extract "$debs/$kernel"_*.deb "$unpacked/kernel"
rm "$debs/$kernel"_*.deb
for deb in "$debs"/*.deb; do dpkg-deb --extract "$deb" "$unpacked/programs"; done

version=$(ls "$unpacked/kernel/lib/modules")
cp "$unpacked/kernel/boot/vmlinuz-$version" "$out/kernel"
depmod --basedir "$unpacked/kernel" "$version"
mkdir "$root/modules"
number=100
for module in $modules; do
  modprobe --dirname "$unpacked/kernel" --set-version "$version" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
  while read -r file; do
    number=$((number + 1))
    cp "$file" "$root/modules/$number-${file##*/}"
  done

mkdir -p "$root/bin" "$root/etc" "$root/lib" "$root/lib64"
cp "$init" "$root/init"
chmod 755 "$root/init"
programs='busybox exportfs nfsdcld rpc.mountd rpc.nfsd rpcbind'
for program in $programs; do
  cp "$(find "$unpacked/programs" -type f -path "*bin/$program")" "$root/bin"
done
find "$unpacked/programs" -path '*/lib/x86_64-linux-gnu/*' ! -path '*/lib/x86_64-linux-gnu/*/*' \
  -name '*.so.*' -exec cp -P {} "$root/lib" \;
cp -L "$unpacked/programs/lib64/"* "$root/lib64"
cp "$unpacked/programs/etc/"netconfig "$unpacked/programs/etc/"protocols \
  "$unpacked/programs/etc/"rpc "$unpacked/programs/etc/"services "$root/etc"
(cd "$root" && find . | sort | cpio --quiet --create --format newc --owner 0:0) >"$out/initrd"

rm -rf "$apt" "$debs" "$root" "$unpacked"
finish

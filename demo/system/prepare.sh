#!/bin/sh
# Downloads the parts of the demo system from Debian, and arranges them for system.nix.
#
#   prepare.sh CACHE SYSTEM        SYSTEM: x86_64-linux or aarch64-linux
#
# Packages are downloaded and unpacked below CACHE, never installed, even those of this
# architecture. Prints the directory for system.nix. If the directory exists already, nothing is
# downloaded.
#
# The result:
#   kernel/version, kernel/image, kernel/lib/modules, kernel/dtbs (aarch64-linux)
#   uml/version, uml/linux, uml/lib/modules (x86_64-linux): User Mode Linux
#   packages/<package>-<version>/{bin,lib}: busybox, Nix and the shared libraries that it needs
#   loader: the file name of the dynamic loader in lib of the C library's package
set -eu
export LC_ALL=C
shared=$(dirname "$0")/../../test/support/debian-packages.sh
. "$shared"

[ $# = 2 ] || fail 'Usage: prepare.sh CACHE SYSTEM'
mkdir -p "$1"
cache=$(cd "$1" && pwd)
system=$2

case $system in
  x86_64-linux)
    architecture=amd64
    kernelPackage=linux-image-cloud-amd64
    umlPackage=user-mode-linux
    ;;
  aarch64-linux)
    architecture=arm64
    kernelPackage=linux-image-arm64
    umlPackage=
    ;;
  *) fail "The system is \"$system\" and must be x86_64-linux or aarch64-linux." ;;
esac

# The modules that any machine may need for a network root. A kernel may lack some of them.
modules='
  af_packet nfs nfsv3 nfsv4 overlay squashfs ext4 loop
  virtio_pci virtio_mmio virtio_net virtio_blk virtio_rng virtio_console
  e1000 e1000e igb r8169 8139cp ena gve
  genet macb broadcom bcm_phy_lib smsc95xx lan78xx microchip
  xhci_pci xhci_plat_hcd dwc2 phy_generic cdc_ether rndis_host usbnet
'

work=$cache/$system
out=$work/prepared
mkdir -p "$work"
makeOnce "$work" prepared "$0" "$shared"

PATH=$PATH:/usr/sbin:/sbin
need readelf binutils
need depmod kmod

apt=$work/apt
debs=$work/debs
unpacked=$work/unpacked
rm -rf "$out" "$debs" "$unpacked" "$apt" "$work/have"
mkdir -p "$debs" "$unpacked" "$out/packages"
# In this apt directory no package is installed, so apt lists all dependencies.
openApt "$apt" "$architecture" main

kernel=$(apt-cache depends "$kernelPackage" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
[ -n "$kernel" ] || fail "The Debian package $kernelPackage names no kernel: is it in the archive?"
# Only shared libraries: the demo system does not use the other programs, such as Perl.
libraries=$(apt-get install --simulate nix-bin |
  sed -n 's/^Inst \(z\{0,1\}lib[^ ]*\).*/\1/p' | grep -v perl)
(cd "$debs" &&
  apt-get download -qq $kernel $umlPackage busybox-static nix-bin $libraries >&2)

for deb in "$debs"/*.deb; do
  name=$(dpkg-deb --field "$deb" Package)
  # A store path name cannot have a tilde. The epoch is not needed.
  version=$(dpkg-deb --field "$deb" Version | sed 's/^[0-9]*://; s/[^0-9A-Za-z+._-]/-/g')
  case $name in
    linux-image-*) directory=kernel ;;
    user-mode-linux) directory=uml ;;
    *) directory=packages/$name-$version ;;
  esac
  mkdir -p "$unpacked/$directory"
  dpkg-deb --extract "$deb" "$unpacked/$directory"
done

# --- kernels ---------------------------------------------------------------------------------

copyModules() { # copyModules ROOT VERSION OUT: copies the modules above and their dependencies
  (
    cd "$1/lib/modules/$2"
    depmod --basedir "$1" "$2"
    mkdir -p "$3/lib/modules/$2"
    # modules.dep has one line for each module: its file, a colon, and the files of its
    # dependencies.
    awk -v wanted="$modules" '
      BEGIN { count = split(wanted, names); for (i = 1; i <= count; i++) isWanted[names[i]] = 1 }
      {
        file = $1; sub(/:$/, "", file)
        name = file; sub(/.*\//, "", name); sub(/\.ko.*/, "", name); gsub(/-/, "_", name)
        if (!(name in isWanted)) next
        print file
        for (i = 2; i <= NF; i++) print $i
      }' modules.dep | sort -u | cpio --quiet --pass-through --make-directories "$3/lib/modules/$2"
    cp modules.builtin modules.builtin.modinfo modules.order "$3/lib/modules/$2"
    find "$3" -name '*.ko.xz' -exec xz --decompress {} +
    depmod --basedir "$3" "$2"
    # Busybox reads only the text files.
    rm -f "$3/lib/modules/$2"/*.bin
  )
}

mkdir "$out/kernel"
version=$(ls "$unpacked/kernel/lib/modules")
printf %s "$version" >"$out/kernel/version"
cp "$unpacked/kernel/boot/vmlinuz-$version" "$out/kernel/image"
copyModules "$unpacked/kernel" "$version" "$out/kernel"
if [ $architecture = arm64 ]; then
  mkdir -p "$out/kernel/dtbs/broadcom"
  cp "$unpacked/kernel/usr/lib/linux-image-$version/broadcom"/bcm2*-rpi-*.dtb "$out/kernel/dtbs/broadcom"
fi

if [ -n "$umlPackage" ]; then
  mkdir "$out/uml"
  mkdir -p "$unpacked/uml/lib"
  mv "$unpacked/uml/usr/lib/uml/modules" "$unpacked/uml/lib/modules"
  version=$(ls "$unpacked/uml/lib/modules")
  printf %s "$version" >"$out/uml/version"
  cp "$unpacked/uml/usr/bin/linux.uml" "$out/uml/linux"
  copyModules "$unpacked/uml" "$version" "$out/uml"
fi

# --- programs and the libraries that they need -----------------------------------------------

install() { # install FILE DIRECTORY NAME: FILE is in its unpacked package
  package=${1#"$unpacked/packages/"}
  target=$out/packages/${package%%/*}/$2
  mkdir -p "$target"
  # Programs load libraries by the names of symlinks.
  cp -L "$1" "$target/$3"
}

installNeeded() { # installNeeded FILE: installs the shared libraries of an ELF file, recursively
  for library in $(readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    [ ! -e "$work/have/$library" ] || continue
    : >"$work/have/$library"
    found=$(find "$unpacked/packages" -path '*/lib/*' -name "$library" | head -n 1)
    [ -n "$found" ] || fail "No Debian package that nix-bin depends on has $library."
    install "$found" lib "$library"
    installNeeded "$found"
  done
}

busybox=$(find "$unpacked/packages" -path '*/bin/busybox')
install "$busybox" bin busybox

nix=$(find "$unpacked/packages" -path '*/usr/bin/nix')
install "$nix" bin nix
loader=$(readelf --program-headers --wide "$nix" | sed -n 's,.*program interpreter: .*/\(.*\)\],\1,p')
printf %s "$loader" >"$out/loader"
mkdir -p "$work/have"
: >"$work/have/$loader"
# glibc loads libnss_dns itself, if Nix looks up a name.
for library in $loader libnss_dns.so.2; do
  install "$(find "$unpacked/packages" -path '*/lib/*' -name "$library" | head -n 1)" lib "$library"
done
installNeeded "$nix"

rm -rf "$apt" "$debs" "$unpacked" "$work/have"
finish

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
#   packages/<package>-<version>/{bin,lib}: busybox, bash, Nix, some of coreutils, and the shared
#     libraries that they need
#   loader: the file name of the dynamic loader in lib of the C library's package
set -eu
export LC_ALL=C
shared=$(dirname "$0")/../../test/support/debian-packages.sh
kernels=$(dirname "$0")/debian-kernel.sh
. "$shared"
. "$kernels"

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

work=$cache/parts-$system
out=$work/prepared
mkdir -p "$work"
makeOnce "$work" prepared "$0" "$shared" "$kernels"

PATH=$PATH:/usr/sbin:/sbin
need readelf binutils
need depmod kmod

# bash has no shared libraries, so that a script of the system can name it in its first line.
programs='busybox-static bash-static nix-bin coreutils'

apt=$work/apt
debs=$work/debs
unpacked=$work/unpacked
rm -rf "$out" "$debs" "$unpacked" "$apt" "$work/have"
mkdir -p "$debs" "$unpacked" "$out/packages"
# In this apt directory no package is installed, so apt lists all dependencies.
openApt "$apt" "$architecture" main

kernel=$(kernelOf "$kernelPackage")
# Only shared libraries: the demo system does not use the other programs, such as Perl.
libraries=$(apt-get install --simulate $programs |
  sed -n 's/^Inst \(z\{0,1\}lib[^ ]*\).*/\1/p' | grep -v perl)
(cd "$debs" &&
  apt-get download -qq $kernel $umlPackage $programs $libraries >&2)

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

mkdir "$out/kernel"
copyKernel "$unpacked/kernel" "$out/kernel"
version=$(cat "$out/kernel/version")
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

unpackedFile() { # unpackedFile PATH: the file in its package, whose package may have it in /usr
  find "$unpacked/packages" -path "*/$1" | head -n 1
}

install "$(unpackedFile bin/busybox)" bin busybox
install "$(unpackedFile bin/bash-static)" bin bash

nix=$(unpackedFile usr/bin/nix)
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

# The module's scripts use options of these that busybox does not have.
for name in readlink stat sync; do
  program=$(unpackedFile "bin/$name")
  install "$program" bin "$name"
  installNeeded "$program"
done

rm -rf "$apt" "$debs" "$unpacked" "$work/have"
finish

#!/bin/sh
# Makes a small system in the shape of NixOS with real Nix, builds its net image, and boots it.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh nix-bin busybox-static xz-utils zstd kmod cpio \
  $(sed -n 's/^\([a-z][^ #]*\).*/\1/p' test/e2e/debian-packages)
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node demo/run.ts "$@"

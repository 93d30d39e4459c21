#!/bin/sh
# Makes a small NixOS-shaped system with real Nix, builds its net image and shows it.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh nix-bin busybox-static xz-utils zstd kmod cpio
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node demo/run.ts "$@"

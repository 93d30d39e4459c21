#!/bin/sh
# Compares netimage with `nix copy` and `cp -a`, side by side on tmpfs. See bench/README.md.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh nix-bin busybox-static xz-utils
PATH=$PWD/node_modules/.bin:$PATH
export PATH
npm run --silent build
exec node bench/build.ts "$@"

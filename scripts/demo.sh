#!/bin/sh
# Makes a small system in the shape of NixOS with real Nix, builds its net image, and boots it.
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC2046 # one word for each package
sh scripts/setup.sh $(sed -n 's/^\([a-z][^ #]*\).*/\1/p' test/e2e/debian-packages)
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node demo/run.ts "$@"

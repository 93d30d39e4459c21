#!/bin/sh
# Installs what a release needs, builds the addon for each kind of computer, and makes all files of the release
# below release/. See README.md.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh scdoc dpkg umoci gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross
PATH=$PWD/node_modules/.bin:$PATH
export PATH
npm run --silent native
exec node packaging/release.ts

#!/bin/sh
# Installs the needs of the tests.
set -eu
cd "$(dirname "$0")/.."
# Root runs what is installed here, so nobody else may write to it.
umask 022
# shellcheck disable=SC2046 # one word for each package
sh scripts/setup.sh $(sed -n 's/^\([a-z][^ #]*\).*/\1/p' test/e2e/debian-packages)
PATH=$PWD/node_modules/.bin:$PATH sh scripts/build-native.sh
sh scripts/build-user-mode-linux.sh

#!/bin/sh
# Runs the tests, after all the set-up that they need.
#
#   npm test                 all but the slow ones
#   npm test -- FILE…        these only
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh \
  nix-bin busybox-static sqlite3 xz-utils bzip2 zstd libarchive-tools util-linux bsdutils apt-utils \
  >&2
PATH=$PWD/node_modules/.bin:$PATH
export PATH
if [ $# = 0 ]; then set -- 'test/**/*.test.ts'; fi
exec node --test --test-reporter=spec "$@"

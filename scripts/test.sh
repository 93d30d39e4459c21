#!/bin/sh
# Runs the tests, after all the set-up that they need.
#
#   npm test                 all but the slow ones; in CI those as well
#   npm test -- FILE…        these only
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh \
  nix-bin busybox-static sqlite3 xz-utils bzip2 zstd libarchive-tools util-linux bsdutils curl \
  exfat-fuse exfatprogs \
  $(sed -n 's/^\([a-z][^ #]*\).*/\1/p' test/e2e/debian-packages) \
  >&2
PATH=$PWD/node_modules/.bin:$PATH
# Each test file is a process, which need not strip and compile the same modules anew.
NODE_COMPILE_CACHE=$PWD/node_modules/.cache/compile
export PATH NODE_COMPILE_CACHE
if [ $# = 0 ]; then
  set -- 'test/**/*.test.ts'
  if [ "${CI:-}" = true ]; then set -- "$@" 'test/**/*.slow.ts'; fi
fi
# Three at once keep two processors busy all the time; with two it takes a sixteenth longer.
exec node --test --test-concurrency=3 --test-reporter=spec "$@"

#!/bin/sh
# Installs what the tests need, and runs the tests.
#
#   npm test                 all tests except the slow ones; in CI also the slow ones
#   npm test -- FILE…        only the tests in these files
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup-tests.sh >&2
PATH=$PWD/node_modules/.bin:$PATH
# Each test file is a process. With the cache, they need not all compile the same modules.
NODE_COMPILE_CACHE=$PWD/node_modules/.cache/compile
export PATH NODE_COMPILE_CACHE
# Many servers of the tests run as an ordinary user, who cannot make a folder there: test/support/namespace.ts.
if [ "$(id -u)" = 0 ]; then
  own=$(node --print 'require("node:module").getCompileCacheDir()')
  install --directory --owner 54321 --group 54322 "${own%-0}-54321"
fi
if [ $# = 0 ]; then
  set -- 'test/**/*.test.ts'
  if [ "${CI:-}" = true ]; then set -- "$@" 'test/**/*.slow.ts'; fi
fi
# Machines, their firmware and disks make tests wait, so more processes than processors are needed to
# keep the processors busy.
exec node --test --test-concurrency=4 --test-reporter=spec "$@"

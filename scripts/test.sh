#!/bin/sh
# Installs what the tests need, and runs the tests.
#
#   npm test                 all tests except the slow ones; in CI also the slow ones
#   npm test -- FILE…        only the tests in these files
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup-tests.sh >&2
PATH=$PWD/node_modules/.bin:$PATH
export PATH
NODE_COMPILE_CACHE=$(node test/support/compile-cache.ts)
export NODE_COMPILE_CACHE
if [ $# = 0 ]; then
  set -- 'test/**/*.test.ts'
  if [ "${CI:-}" = true ]; then set -- "$@" 'test/**/*.slow.ts'; fi
fi
# Machines, their firmware and disks make tests wait, so more processes than processors are needed to
# keep the processors busy. No test has a deadline of its own: the limit is so long that it only turns a hang
# into a failure, and a wait then tells what it waited for (test/support/waiting.ts).
exec node --test --test-concurrency=4 --test-timeout=900000 --test-reporter=spec "$@"

#!/bin/sh
# Builds the library that User Mode Linux needs in the tests: test/e2e/support/user-mode-linux.c.
set -eu
cd "$(dirname "$0")/.."
umask 022
source=test/e2e/support/user-mode-linux.c
library=node_modules/.cache/user-mode-linux.so
isNew() { # isNew FILE: the library was built after the file was changed
  [ -e "$library" ] && [ ! "$1" -nt "$library" ]
}
# This script has the flags.
if isNew "$source" && isNew scripts/build-user-mode-linux.sh; then exit; fi
mkdir -p node_modules/.cache
# A machine may load the old one now.
unfinished=$library.$$
trap 'rm -f "$unfinished"' EXIT
cc -std=c17 -O2 -fPIC -shared -Wall -Wextra -Werror -s -o "$unfinished" "$source"
mv "$unfinished" "$library"

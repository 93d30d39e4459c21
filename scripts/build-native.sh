#!/bin/sh
# Builds the optional addon for one kind of computer. Without it, netimage does the same in TypeScript.
#
#   sh scripts/build-native.sh [FILE [COMPILER]]
#
# FILE: native/linux-x64.node, or native/linux-arm64.node with a compiler for arm64, for example
# aarch64-linux-gnu-gcc of the Debian package gcc-aarch64-linux-gnu.
set -eu
cd "$(dirname "$0")/.."
file=${1:-native/linux-$(node -p process.arch).node}
headers=$(echo node_modules/node-linux-*/include/node)
"${2:-cc}" -std=c17 -O2 -fPIC -shared -Wall -Wextra -Wno-unused-parameter -Werror -s \
  -I "$headers" -o "$file" native/*.c

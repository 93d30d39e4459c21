#!/bin/sh
# Brings what the scripts beside this one need: our npm packages, with a Node that netimage
# supports, and the Debian packages named as arguments. A second call finds all there and is done.
set -eu
cd "$(dirname "$0")/.."

done=node_modules/.netimage-setup
if [ ! -e "$done" ] || [ package-lock.json -nt "$done" ]; then
  # Not `npm ci`: it refuses a lock file without the packages of every other platform, and a
  # registry may not have all of those.
  install='npm install --no-save --no-audit --no-fund'
  # First the Node of ours, then all else with it: npm leaves out what an older Node cannot use.
  $install --workspace dev-runtime
  PATH=$PWD/node_modules/.bin:$PATH $install
  touch "$done"
fi

missing=
for package; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup.sh: what Debian has in these packages is needed:$missing" >&2
elif [ "$(id -u)" != 0 ]; then
  echo "setup.sh: only root can install these packages: apt-get install$missing" >&2
else
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086 # one word a package
  exec apt-get install -y -qq --no-install-recommends $missing
fi
exit 1

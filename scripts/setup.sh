#!/bin/sh
# Installs the needs of the other scripts: our npm packages, with a Node that netimage supports, and
# the Debian packages named as arguments. If everything is installed, this does nothing.
set -eu
cd "$(dirname "$0")/.."

done=node_modules/.netimage-setup
if [ ! -e "$done" ] || [ package-lock.json -nt "$done" ]; then
  # Not `npm ci`: it refuses a lock file that lacks packages of other platforms, and a registry may
  # not have all of those packages.
  install='npm install --no-save --no-audit --no-fund'
  # Install our Node first, then use it: with an older Node, npm leaves out packages.
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
  echo "setup.sh: there is no apt-get here. Install the programs of these Debian packages:$missing" >&2
elif [ "$(id -u)" != 0 ]; then
  echo "setup.sh: only root can install packages. Run as root: apt-get install$missing" >&2
else
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086 # one word for each package
  exec apt-get install -y -qq --no-install-recommends $missing
fi
exit 1

# Scripts source this file to make files from Debian packages without installing them.

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

need() { # need PROGRAM PACKAGE
  command -v "$1" >/dev/null || fail "The program \"$1\" is missing: install the Debian package $2."
}

# Ends the script if WORK/RESULT exists and was made from the same version of each FILE. A lock lets
# parallel tests wait for the one that makes the result.
makeOnce() { # makeOnce WORK RESULT FILE...
  exec 9>"$1/lock"
  flock 9
  stampFile=$1/stamp
  result=$1/$2
  shift 2
  stamp=$(cat "$@" | cksum)
  if [ "$(cat "$stampFile" 2>/dev/null)" = "$stamp" ]; then
    echo "$result"
    exit
  fi
  rm -f "$stampFile"
}

# The last step of the script: records that the result of makeOnce is complete, and prints its path.
finish() {
  printf %s "$stamp" >"$stampFile"
  echo "$result"
}

# Makes a separate apt in DIRECTORY without any installed package. It uses only the machine's Debian
# archives, with these ARCHITECTURES (the first is the native one) and COMPONENTS. A package from a
# newer SUITE is named as PACKAGE/SUITE.
openApt() { # openApt DIRECTORY ARCHITECTURES COMPONENTS [SUITE]
  need apt-get apt
  need dpkg-deb dpkg
  mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" "$1/etc/apt.conf.d" \
    "$1/etc/preferences.d"
  : >"$1/state/status"
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' |
    sort -u >"$1/archives"
  [ -s "$1/archives" ] || fail 'apt knows no Debian archive: run "apt-get update" first.'
  {
    cat "$1/archives"
    # An archive has every suite if the name of its suite does not end with "-updates" or similar.
    [ -z "${4-}" ] || sed -n "s/ [a-z]*\$/ $4/p" "$1/archives"
  } |
    sed "s,.*,deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & $3," |
    sort -u >"$1/etc/sources.list"
  if [ -n "${4-}" ]; then
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$4" >"$1/etc/preferences.d/newer"
  fi
  cat >"$1/apt.conf" <<CONFIGURATION
APT::Architecture "${2%% *}";
APT::Architectures { $(printf '"%s"; ' $2)};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$1/state";
Dir::State::status "$1/state/status";
Dir::Cache "$1/cache";
Dir::Etc "$1/etc";
CONFIGURATION
  export APT_CONFIG="$1/apt.conf"
  apt-get update -qq >&2
}

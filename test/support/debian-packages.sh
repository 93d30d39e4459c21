# For scripts that make something of Debian's packages without installing any. They source this.

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

need() { # need PROGRAM PACKAGE
  command -v "$1" >/dev/null || fail "The program \"$1\" is missing: install the Debian package $2."
}

# Ends the script where it has made WORK/RESULT already, in this version of it: of the files named
# after that. Tests that run side by side wait for the one that makes it.
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

# The script's last step: what makeOnce was asked for is there.
finish() {
  printf %s "$stamp" >"$stampFile"
  echo "$result"
}

# An apt of our own in DIRECTORY, in which no package is installed. It knows only the machine's
# Debian archives, for these ARCHITECTURES (the first is its own) and COMPONENTS, and from a newer
# SUITE what is asked for as PACKAGE/SUITE.
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
    # An archive without updates in its suite's name has every suite.
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

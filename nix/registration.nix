# At each boot, makes Nix's database agree with the store: registers the paths of the image, and
# forgets the paths that are gone. When the image is another, makes the system's profile.
#
# Each step can be interrupted: its mark is written last, so the next boot does the step again. The
# marks lie beside Nix's database, which each machine has for itself. The registration file of the
# image stays, since other machines may have the same root.
{
  config,
  lib,
  pkgs,
}:

let
  registration = "/nix-path-registration";

  # A separate process, because `set -e` has no effect in commands that are joined with `||`.
  script = pkgs.writeShellScript "register-net-image" ''
    set -euo pipefail
    # A variable without quotes is a list of lines, as ls and Nix print them.
    set -f
    IFS=$'\n'
    export LC_ALL=C
    PATH=${
      lib.makeBinPath [
        pkgs.coreutils
        pkgs.diffutils
        config.nix.package.out
      ]
    }
    registration=${registration}
    # A copy of the registration whose paths are registered.
    registered=/nix/var/nix/netimage-registered
    # The state of the store and the database when they last agreed.
    agreed=/nix/var/nix/netimage-store-state

    # A machine that cannot write there has no database there.
    mkdir -p /nix/var/nix 2>/dev/null && test -w /nix/var/nix || exit 0

    # Everything that Nix or the server can change without the other. If Nix only reads, the files of
    # its database stay as they are.
    state() {
      sha256sum < $registration
      ls -A /nix/store | sha256sum
      local file
      for file in /nix/var/nix/db/db.sqlite{,-wal,-journal}; do
        if test -e $file; then stat --format='%n %i %s %.9Y %.9Z' $file; fi
      done
    }

    # $1: the file that has the mark under its temporary name, $1.new.
    put_mark() {
      # The content must be on the disk before the file has its final name.
      sync $1.new
      mv $1.new $1
    }

    if state | cmp -s - $agreed; then exit 0; fi

    is_new=yes
    if cmp -s $registration $registered; then is_new=; fi
    had_database=
    if test -e /nix/var/nix/db/db.sqlite; then had_database=yes; fi

    # A record has the path, hash, size, deriver and number of references, each on a line, and then
    # the references.
    mapfile -t lines < $registration
    paths=()
    declare -A record=() gone=() in_store=()
    for ((at = 0; at < ''${#lines[@]}; at += 5 + lines[at + 4])); do
      paths+=("''${lines[at]}")
      record[''${lines[at]}]=$at
    done
    names=$(ls -A /nix/store)
    for name in $names; do in_store[/nix/store/$name]=yes; done

    # A path is not registered if it is gone, or if a path is gone that it refers to: Nix fetches or
    # builds it again when it is needed.
    for path in "''${paths[@]}"; do
      if [ -z "''${in_store[$path]-}" ]; then gone[$path]=yes; fi
    done
    count=0
    while ((count < ''${#gone[@]})); do
      count=''${#gone[@]}
      for path in "''${paths[@]}"; do
        at=''${record[$path]}
        for ((i = at + 5; i < at + 5 + lines[at + 4]; i++)); do
          if [ -n "''${gone[''${lines[i]}]-}" ]; then
            gone[$path]=yes
            break
          fi
        done
      done
    done
    present=()
    for path in "''${paths[@]}"; do
      if [ -z "''${gone[$path]-}" ]; then present+=("$path"); fi
    done

    # Another image may have other content below the same path, so all of its paths are registered.
    # Otherwise only those that Nix does not know: what Nix has learnt of the others stays, such as
    # signatures.
    missing=("''${present[@]}")
    if [ -z "$is_new" ]; then
      # The length of a command line is limited.
      invalid=$(
        for ((i = 0; i < ''${#present[@]}; i += 4096)); do
          nix-store --check-validity --print-invalid "''${present[@]:i:4096}" || exit
        done
      )
      missing=($invalid)
    fi
    if [ ''${#missing[@]} -gt 0 ]; then
      for path in "''${missing[@]}"; do
        at=''${record[$path]}
        text=
        for ((i = at; i < at + 5 + lines[at + 4]; i++)); do text+=''${lines[i]}$'\n'; done
        printf %s "$text"
      done | nix-store --load-db
    fi

    if [ -n "$is_new" ]; then
      # nixos-rebuild requires this file. NixOS may also make /etc read-only.
      if test -w /etc; then touch /etc/NIXOS; fi
      nix-env --profile /nix/var/nix/profiles/system --set "$(readlink -f /run/current-system)"
      cp $registration $registered.new
      put_mark $registered
    fi

    # Nix forgets each path that is gone, unless a path that is there refers to it. Then the exit
    # status is the same as if the database were broken. A database that was made here knows no path
    # that is gone.
    if [ -n "$had_database" ] && ! nix-store --verify; then
      nix-store --check-validity --print-invalid "''${paths[@]:0:1}" > /dev/null
      echo "netimage: paths of the store are gone, but the store has paths that refer to them (see above)." \
        "\"nix-store --verify --repair\" fetches them again, if a cache has them."
      exit 0
    fi

    sync --file-system /nix/var/nix/db
    state > $agreed.new
    put_mark $agreed
  '';
in
{
  # nixpkgs's images use a unit since 26.05, and an init without bash runs no postBootCommands.
  isUnit =
    lib.versionAtLeast lib.trivial.release "26.05" || config.system.nixos-init.enable or false;

  unit = {
    description = "Register the store paths of the net image";
    unitConfig = {
      DefaultDependencies = false;
      ConditionPathExists = registration;
    };
    wantedBy = [ "sysinit.target" ];
    after = [ "local-fs.target" ];
    before = [
      "sysinit.target"
      "shutdown.target"
      "nix-daemon.socket"
      "nix-daemon.service"
    ];
    conflicts = [ "shutdown.target" ];
    restartIfChanged = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = script;
    };
  };

  # Stage 2 must go on if the registration fails.
  commands = ''
    if [ -f ${registration} ]; then
      ${script} || echo "netimage: the store could not be registered; the next boot tries again"
    fi
  '';
}

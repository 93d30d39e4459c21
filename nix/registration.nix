# At the first boot, registers the store paths with Nix and makes the system's profile.
#
# If the script is interrupted, the next boot runs all of it again, because the mark (`done`) is
# written last. The registration file of the image stays, since other machines may have the same
# root. The mark lies beside Nix's database, which each machine has for itself.
{
  config,
  lib,
  pkgs,
}:

let
  nix = "${config.nix.package.out}/bin";
  inherit (pkgs) coreutils diffutils;
  registration = "/nix-path-registration";
  done = "/nix/var/nix/netimage-registered";

  # A separate process, because `set -e` has no effect in commands that are joined with `||`.
  script = pkgs.writeShellScript "register-net-image" ''
    set -eu
    # A machine that cannot write there has no database there.
    ${coreutils}/bin/mkdir -p /nix/var/nix 2>/dev/null && test -w /nix/var/nix || exit 0
    if ${diffutils}/bin/cmp -s ${registration} ${done}; then exit 0; fi
    ${nix}/nix-store --load-db < ${registration}
    # nixos-rebuild requires this file. NixOS may also make /etc read-only.
    if test -w /etc; then ${coreutils}/bin/touch /etc/NIXOS; fi
    ${nix}/nix-env --profile /nix/var/nix/profiles/system \
      --set "$(${coreutils}/bin/readlink -f /run/current-system)"
    # The content must be on the disk before the file has its final name.
    ${coreutils}/bin/cp ${registration} ${done}.new
    ${coreutils}/bin/sync ${done}.new
    ${coreutils}/bin/mv ${done}.new ${done}
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

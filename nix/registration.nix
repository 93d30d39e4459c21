# The first boot tells Nix which store paths there are, and makes the system's profile.
#
# Once, whatever happens in the middle: what says that it is done is written last. The image's
# registration stays, since other machines may have the same root; what is done is noted beside the
# database, which each machine has for itself.
{
  config,
  lib,
  pkgs,
}:

let
  nix = "${config.nix.package.out}/bin";
  registration = "/nix-path-registration";
  done = "/nix/var/nix/netimage-registered";

  commands = ''
    ${nix}/nix-store --load-db < ${registration}
    # nixos-rebuild takes a system without these for none of NixOS.
    touch /etc/NIXOS
    ${nix}/nix-env --profile /nix/var/nix/profiles/system --set "$(${pkgs.coreutils}/bin/readlink -f /run/current-system)"
    ${pkgs.coreutils}/bin/cp ${registration} ${done}.new
    ${pkgs.coreutils}/bin/sync ${done}.new
    ${pkgs.coreutils}/bin/mv ${done}.new ${done}
  '';
in
{
  isNeeded = config.nix.enable;

  # nixpkgs's own images register in a unit since 26.05.
  isUnit = lib.versionAtLeast lib.trivial.release "26.05";

  unit = {
    description = "Register the store paths of the net image";
    unitConfig = {
      DefaultDependencies = false;
      ConditionPathExists = registration;
      # Who cannot write to the root keeps no database in it.
      ConditionPathIsReadWrite = "/";
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
    };
    script = ''
      if ! ${pkgs.diffutils}/bin/cmp -s ${registration} ${done}; then
        set -eu
        ${commands}
      fi
    '';
  };

  # A subshell: what follows in stage 2 is to go on whatever happens here.
  script = ''
    if [ -f ${registration} ] && ! ${pkgs.diffutils}/bin/cmp -s ${registration} ${done}; then
      (
        set -e
        ${commands}
      ) || echo "netimage: the store could not be registered; the next boot tries again"
    fi
  '';
}

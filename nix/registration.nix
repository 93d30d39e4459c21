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
  inherit (pkgs) coreutils diffutils;
  registration = "/nix-path-registration";
  done = "/nix/var/nix/netimage-registered";

  # A process of its own: in a list of commands, bash would go on after those that fail.
  script = pkgs.writeShellScript "register-net-image" ''
    set -eu
    # Who cannot write there keeps no database there.
    ${coreutils}/bin/mkdir -p /nix/var/nix 2>/dev/null && test -w /nix/var/nix || exit 0
    if ${diffutils}/bin/cmp -s ${registration} ${done}; then exit 0; fi
    ${nix}/nix-store --load-db < ${registration}
    # Without it nixos-rebuild takes this for no NixOS. NixOS may also make /etc read-only.
    if test -w /etc; then ${coreutils}/bin/touch /etc/NIXOS; fi
    ${nix}/nix-env --profile /nix/var/nix/profiles/system \
      --set "$(${coreutils}/bin/readlink -f /run/current-system)"
    # On the disk before its name says so.
    ${coreutils}/bin/cp ${registration} ${done}.new
    ${coreutils}/bin/sync ${done}.new
    ${coreutils}/bin/mv ${done}.new ${done}
  '';
in
{
  # nixpkgs's own images register in a unit since 26.05, and an init without bash has no commands.
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

  # What follows in stage 2 goes on whatever happens here.
  commands = ''
    if [ -f ${registration} ]; then
      ${script} || echo "netimage: the store could not be registered; the next boot tries again"
    fi
  '';
}

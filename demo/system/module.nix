# The scripts and units of netimage's module, for a system without nixpkgs.
{
  bash,
  # Also has the programs of diffutils.
  coreutils,
  nix,
  # The store path of a program.
  systemctl,
  # Runs a script of sh: its name, its text, its environment.
  runText,
}:

let
  pkgs = {
    inherit coreutils;
    diffutils = coreutils;
    writeShellScript =
      name: text:
      runText name ''
        printf '#!%s\n%s' $bash/bin/bash "$text" > $out
        chmod +x $out
      '' { inherit bash text; };
  };

  lib = {
    inherit (builtins) concatStringsSep;
    makeBinPath =
      packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
  };

  config = {
    nix.package.out = nix;
    systemd.package = runText "systemd" "mkdir -p $out/bin; ln -s $systemctl $out/bin/systemctl" {
      inherit systemctl;
    };
  };

  registration = import ../../nix/registration.nix { inherit config lib pkgs; };
  bless = import ../../nix/bless.nix { inherit config lib pkgs; };
  restart = import ../../nix/restart.nix {
    inherit lib pkgs;
    systemd = config.systemd.package;
  } [ ];

  lines = name: value: "${name}=${if builtins.isList value then toString value else value}\n";
  section =
    name: settings:
    "[${name}]\n" + builtins.concatStringsSep "" (
      builtins.attrValues (builtins.mapAttrs lines settings)
    );

  # The part of a unit that start.sh needs, and that netimage looks for.
  unit =
    {
      description,
      serviceConfig,
      onFailure ? [ ],
      ...
    }:
    section "Unit" (
      { Description = description; } // (if onFailure == [ ] then { } else { OnFailure = onFailure; })
    )
    + section "Service" {
      inherit (serviceConfig) ExecStart Type;
    };
in
{
  # NixOS's stage 2 runs boot.postBootCommands by a script with this name.
  localCommands = runText "local-cmds" "printf %s \"$text\" > $out" { text = registration.commands; };

  installBootLoader = import ../../nix/publish.nix { inherit pkgs; };

  units = runText "system-units" ''
    mkdir -p $out/system
    printf %s "$good" > $out/system/netimage-bless.service
    printf %s "$notGood" > $out/system/netimage-not-good.service
    printf %s "$restart" > $out/system/netimage-restart.service
  '' {
    good = unit bless.good;
    notGood = unit bless.notGood;
    restart = unit restart.service;
  };
}

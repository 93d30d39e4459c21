# Notes in the machine's root that a boot is good, or which units have failed if it is not. A note also
# says of which system and which boot it is.
#
# The notes lie below /nix, because /var may be on a disk of the machine, or in its memory: the server
# would not see the notes there. The server removes the notes when the machine boots again.
#
# A boot is good if boot-complete.target is reached. A person's units that check the boot are
# required by this target and come before it.
{
  config,
  lib,
  pkgs,
}:

let
  # A script that writes a note. `findMore` sets the variable `more` to the rest of the JSON object.
  note =
    name: packages: findMore:
    pkgs.writeShellScript "note-${name}" ''
      set -euo pipefail
      PATH=${lib.makeBinPath (packages ++ [ pkgs.coreutils ])}
      directory=/nix/var/netimage
      file=$directory/${name}
      boot=$(cat /proc/sys/kernel/random/boot_id)
      toplevel=$(readlink -e /run/booted-system)
      more=
      ${findMore}
      mkdir -p $directory
      printf '{ "version": 1, "bootId": "%s", "toplevel": "%s"%s }\n' "$boot" "$toplevel" "$more" > $file.new
      # The content must be on the disk before the file has its final name.
      sync $file.new
      mv $file.new $file
    '';

  # Without default dependencies, so that a check may come after any other target.
  unitConfig = {
    DefaultDependencies = false;
    ConditionPathIsReadWrite = "/nix/var";
  };
  serviceConfig.Type = "oneshot";
in
{
  # Not all releases of nixpkgs have the target. If nixpkgs has it, this adds nothing to it.
  target = {
    description = "Boot Completion Check";
    requires = [ "sysinit.target" ];
    after = [ "sysinit.target" ];
  };

  # Like systemd-bless-boot.service.
  good = {
    description = "Note that this boot is good";
    inherit unitConfig;
    wantedBy = [ "basic.target" ];
    requires = [ "boot-complete.target" ];
    after = [
      "local-fs.target"
      "boot-complete.target"
    ];
    before = [ "shutdown.target" ];
    conflicts = [ "shutdown.target" ];
    # systemd also starts this unit if boot-complete.target is not reached, because then the job of
    # this service fails.
    onFailure = [ "netimage-not-good.service" ];
    restartIfChanged = false;
    serviceConfig = serviceConfig // {
      RemainAfterExit = true;
      ExecStart = note "blessed" [ ] "";
    };
  };

  notGood = {
    description = "Note which units keep this boot from being good";
    inherit unitConfig;
    before = [ "shutdown.target" ];
    conflicts = [ "shutdown.target" ];
    restartIfChanged = false;
    serviceConfig = serviceConfig // {
      ExecStart = note "failed" [ config.systemd.package ] ''
        # A check may have failed because a unit that it requires has failed. So these are all units.
        failed=$(systemctl list-units --failed --plain --full --no-legend)
        names= count=0
        while read -r name _ && ((count++ < 20)); do
          if [ -z "$name" ]; then continue; fi
          # Names may have backslashes, but no quotes.
          names+="''${names:+, }\"''${name//\\/\\\\}\""
        done <<< "$failed"
        more=", \"units\": [$names]"'';
    };
  };
}

# Notes in the machine's root that a boot is good, of which system it was, and which boot it was.
#
# A boot is good if boot-complete.target is reached. A person's units that check the boot are
# required by this target and come before it.
{ pkgs }:

{
  # Not all releases of nixpkgs have the target. If nixpkgs has it, this adds nothing to it.
  target = {
    description = "Boot Completion Check";
    requires = [ "sysinit.target" ];
    after = [ "sysinit.target" ];
  };

  # Like systemd-bless-boot.service. Without default dependencies, so that a check may come after
  # any other target.
  service = {
    description = "Note that this boot is good";
    unitConfig = {
      DefaultDependencies = false;
      ConditionPathIsReadWrite = "/var/lib";
    };
    wantedBy = [ "basic.target" ];
    requires = [ "boot-complete.target" ];
    after = [
      "local-fs.target"
      "boot-complete.target"
    ];
    before = [ "shutdown.target" ];
    conflicts = [ "shutdown.target" ];
    restartIfChanged = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      StateDirectory = "netimage";
      ExecStart = pkgs.writeShellScript "bless-boot" ''
        set -euo pipefail
        PATH=${pkgs.coreutils}/bin
        file=/var/lib/netimage/blessed
        boot=$(cat /proc/sys/kernel/random/boot_id)
        toplevel=$(readlink -e /run/booted-system)
        printf '{ "version": 1, "bootId": "%s", "toplevel": "%s" }\n' "$boot" "$toplevel" > $file.new
        # The content must be on the disk before the file has its final name.
        sync $file.new
        mv $file.new $file
      '';
    };
  };
}

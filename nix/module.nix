# Makes the net image of a NixOS system: `config.system.build.netImage`. Importing this module is
# enough.
#
# The module first tests for each option that some release since 24.05 does not have.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  inherit (lib)
    literalExpression
    mkDefault
    mkIf
    mkMerge
    mkOption
    optional
    types
    ;

  cfg = config.netImage;
  platform = pkgs.stdenv.hostPlatform.system;
  imageName = "${cfg.imageBaseName}-${config.system.nixos.label}-${platform}";

  nfsRoot = import ./nfs-root.nix { inherit lib; } cfg.nfsRoot;
  isVersion4 = lib.hasPrefix "4" nfsRoot.version;
  # If the server is missing, an assertion fails.
  server = toString nfsRoot.server;
  isIpv6 = lib.hasPrefix "[" server;
  nfsOptions = [
    "vers=${nfsRoot.version}"
    (if isIpv6 then "proto=tcp6" else "proto=tcp")
  ]
  # Locks of version 3 need programs that do not run before the root is mounted.
  ++ optional (!isVersion4) "nolock"
  ++ nfsRoot.options;

  isNfs = mountPoint: lib.hasPrefix "nfs" config.fileSystems.${mountPoint}.fsType;

  boards = import ./boards.nix;
  chosen = map (name: boards.${name}) cfg.boards;
  # Raspberry Pi's kernel has other drivers as modules than the kernel of kernel.org.
  inherit (config.boot.kernelPackages) kernel;
  isRaspberryPiKernel =
    lib.hasInfix "rpi" (kernel.pname or "")
    # Before 24.11 the kernel's name does not tell.
    || lib.hasInfix "raspberrypi" (kernel.src.meta.homepage or "");
  modulesOf =
    board:
    board.modules
    ++ (if isRaspberryPiKernel then board.ofRaspberryPiKernel or [ ] else board.ofKernelOrg or [ ]);
  hasRaspberryPi = lib.any (board: board.isRaspberryPi) chosen;

  stage1IsSystemd = options.boot.initrd ? systemd && config.boot.initrd.systemd.enable;

  # The interface that carries the root keeps the settings and the address of stage 1. The
  # identifier must stay the same, because a DHCP server gives another address to another
  # identifier.
  rootNetwork = {
    matchConfig = {
      Type = "ether";
      # Excludes bridges and the interfaces of containers.
      Kind = "!*";
    };
    networkConfig = {
      DHCP = if isIpv6 then "yes" else "ipv4";
      KeepConfiguration = "yes";
    };
    dhcpV4Config.ClientIdentifier = "mac";
  };

  # Sets the same client identifier in the networks of a person or of NixOS. The key must be in each
  # network: systemd ignores it in networkd.conf.
  networksWithSameClient = mkOption {
    type = types.attrsOf (
      types.submodule (
        { config, ... }:
        {
          config.dhcpV4Config = mkIf (lib.elem (config.networkConfig.DHCP or false) asksForIpv4) {
            ClientIdentifier = mkDefault "mac";
          };
        }
      )
    );
  };
  asksForIpv4 = [
    true
    "yes"
    "true"
    "on"
    "ipv4"
  ];

  # systemd mounts with util-linux, which looks for helpers in /sbin of the initrd. Before nixpkgs
  # 24.11, extraBin adds programs only to /bin.
  nfsHelpers = pkgs.runCommand "nfs-mount-helpers" { } ''
    mkdir -p $out/sbin
    ln -s ${pkgs.nfs-utils}/bin/mount.nfs ${pkgs.nfs-utils}/bin/mount.nfs4 $out/sbin
  '';

  # The kernel sends this name to the server. It must be set before the first mount.
  nameNfs4Client = ''
    cat /sys/class/net/*/device/net/*/address | head -n 1 > /sys/module/nfs/parameters/nfs4_unique_id
  '';

  registration = import ./registration.nix { inherit config lib pkgs; };
  bless = import ./bless.nix { inherit config lib pkgs; };
  restart = import ./restart.nix {
    inherit lib pkgs;
    systemd = config.systemd.package;
  } cfg.site.rebootWindows;

  # The options of docs/options.md, without those that are not set.
  settings = lib.filterAttrs (_: value: value != null) {
    inherit (cfg)
      boot
      imageBaseName
      machines
      nfsRoot
      populateFirmwareCommands
      populateRootCommands
      rootDirectoryName
      silence
      ;
    storePaths = map toString cfg.storePaths;
    configTxt = if cfg.configTxt == "" then null else cfg.configTxt;
    inherit (cfg) deviceTree;
    firmware = inStore cfg.firmware;
    uboot = inStore cfg.uboot;
    ipxe = inStore cfg.ipxe;
    uefiStub = inStore cfg.uefiStub;
  };
  inStore = path: if path == null then null else "${path}";

  imageAs =
    format:
    import ./image.nix {
      inherit lib;
      inherit (pkgs.buildPackages) closureInfo runCommand writeText;
      netimage = cfg.package;
    } {
      inherit format settings;
      inherit (cfg) storePaths;
      inherit (config.system.build) toplevel;
    };
in
{
  options.systemd.network.networks = networksWithSameClient;
  options.boot.initrd.systemd.network.networks = networksWithSameClient;

  options.netImage = {
    package = mkOption {
      type = types.package;
      default = pkgs.buildPackages.netimage or (pkgs.buildPackages.callPackage ./package.nix { });
      defaultText = literalExpression "netimage, for the machine that builds";
      description = "The program that makes the image. It runs on the machine that builds.";
    };

    imageBaseName = mkOption {
      type = types.str;
      default = "nixos-net-image";
      example = "pi";
      description = "First part of the image's default names.";
    };

    rootDirectoryName = mkOption {
      type = types.str;
      default = imageName;
      defaultText = literalExpression ''"''${imageBaseName}-''${config.system.nixos.label}-''${system}"'';
      description = "Name of the root tree's directory in the image.";
    };

    storePaths = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = literalExpression "[ pkgs.hello ]";
      description = ''
        More store paths for the root tree, with their closures. The system is always in it.
      '';
    };

    nfsRoot = mkOption {
      type = types.str;
      default = "192.168.0.108:/mnt/nfsshare/${imageName},v3";
      defaultText = literalExpression ''"192.168.0.108:/mnt/nfsshare/''${imageBaseName}-''${config.system.nixos.label}-''${system},v3"'';
      example = "10.0.0.5:/srv/pi,v3";
      description = ''
        The machine's NFS root in the form of the kernel's `nfsroot=`: `server:/path,options`. The
        module derives the devices and options of the file systems from this.
      '';
    };

    populateFirmwareCommands = mkOption {
      type = types.lines;
      default = "";
      example = literalExpression ''"cp ''${pkgs.ubootRaspberryPi4_64bit}/u-boot.bin ."'';
      description = ''
        Shell commands. The files that they make in their working directory become the boot tree, and
        replace netimage's files of the same names. The commands see `$out`, `$rootfs` and `$bootfs`.
      '';
    };

    populateRootCommands = mkOption {
      type = types.lines;
      default = "";
      example = "mkdir -p files/srv";
      description = ''
        Shell commands. The files that they make in `./files` become part of the root tree. The
        commands see `$out`, `$rootfs` and `$bootfs`.
      '';
    };

    boot = mkOption {
      type = types.nullOr (
        types.listOf (
          types.enum [
            "extlinux"
            "ipxe"
            "raspberry-pi"
            "uefi"
          ]
        )
      );
      default = null;
      example = [ "raspberry-pi" ];
      description = ''
        The ways of booting that the boot tree supports. `null` means those that fit the system. With
        an empty list, only {option}`netImage.populateFirmwareCommands` makes the boot tree.
      '';
    };

    boards = mkOption {
      type = types.listOf (types.enum (builtins.attrNames boards));
      default = lib.optionals pkgs.stdenv.hostPlatform.isx86_64 [ "pc" "virtual" ];
      defaultText = literalExpression ''[ "pc" "virtual" ] for x86_64, else [ ]'';
      example = [ "raspberry-pi-4" ];
      description = ''
        The machines that boot the image. Stage 1 gets the drivers of their network. The initrd does
        not build if the kernel does not have these drivers.
      '';
    };

    deviceTree = mkOption {
      type = types.nullOr types.str;
      default = config.hardware.deviceTree.name or null;
      defaultText = literalExpression "config.hardware.deviceTree.name";
      example = "rockchip/rk3399-rockpro64.dtb";
      description = ''
        The device tree of the system that U-Boot loads. `null` means that U-Boot chooses the device
        tree for its board.
      '';
    };

    firmware = mkOption {
      type = types.nullOr types.path;
      default = if hasRaspberryPi then "${pkgs.raspberrypifw}/share/raspberrypi/boot" else null;
      defaultText = literalExpression ''"''${pkgs.raspberrypifw}/share/raspberrypi/boot", for a Raspberry Pi'';
      description = "The Raspberry Pi's firmware.";
    };

    uboot = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = literalExpression ''"''${pkgs.ubootRaspberryPi4_64bit}/u-boot.bin"'';
      description = "U-Boot, which a Raspberry Pi's firmware starts in place of the kernel.";
    };

    configTxt = mkOption {
      type = types.lines;
      default = "";
      example = "dtparam=audio=on";
      description = "Lines for the end of the Raspberry Pi's `config.txt`.";
    };

    ipxe = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = literalExpression "pkgs.ipxe";
      description = "A directory with iPXE's loaders, which are copied into the boot tree.";
    };

    uefiStub = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "systemd's stub for UEFI, if the system's closure has none.";
    };

    machines = mkOption {
      type = types.listOf (types.strMatching "([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}");
      default = [ ];
      example = [ "dc:a6:32:01:02:03" ];
      description = "Hardware addresses of machines with a `pxelinux.cfg` of their own.";
    };

    retryAfter = mkOption {
      type = types.nullOr types.ints.positive;
      default = 30;
      example = null;
      description = ''
        If stage 1 finds no root, or if the kernel panics, the machine starts again after this number
        of seconds, by `boot.panic_on_fail` and `panic=` on the kernel line. If systemd crashes, it
        starts again as well, by `systemd.crash_reboot`. After a power failure, machines are often
        ready before their server. `null` means that the machine waits for a person at the console.
      '';
    };

    stage1TimeLimit = mkOption {
      type = types.nullOr types.ints.positive;
      default = if cfg.retryAfter == null then null else 300;
      defaultText = literalExpression "300, or null if retryAfter is null";
      example = null;
      description = ''
        If stage 1 is not at its end after this number of seconds, the machine starts again. A server
        that stops answering in the middle of a mount makes stage 1 wait for ever. `null` means that
        there is no limit.
      '';
    };

    site.rebootWhenAsked = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the machine restarts itself when a roll-out of its site has an image for it, and a slot.
        `netimage serve` must serve its root.
      '';
    };

    site.rebootWindows = mkOption {
      type =
        let
          day = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)";
          days = "${day}((,|[.][.])${day})*";
          time = "([01][0-9]|2[0-3]):[0-5][0-9]";
        in
        types.listOf (types.strMatching "(${days} )?${time}-${time}");
      default = [ ];
      example = [
        "02:00-05:00"
        "Sat,Sun 10:00-12:00"
        "Mon..Fri 22:00-04:00"
      ];
      description = ''
        When the machine may restart itself, in its own local time. A window that ends before it begins
        lasts until the next day. With an empty list, the machine may restart at any time.
      '';
    };

    silence = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "no-nfs-helper" ];
      description = "Rules of `netimage check` that do not run, at evaluation and when the image is built.";
    };
  };

  config = mkMerge [
    {
      netImage.storePaths = [ config.system.build.toplevel ];

      system.build.netImage = imageAs "directory";
      system.build.netImageTarball = imageAs "tar";

      # A virtual machine for trying the system (build.vm) has its own root.
      assertions = mkIf (!(options ? virtualisation.diskImage)) (
        import ./assertions.nix {
          inherit
            cfg
            config
            lib
            nfsRoot
            stage1IsSystemd
            ;
        }
      );

      # mkDefault has no effect on the options, because NixOS defines some itself. So they are set
      # outright, but only if the root is NFS. The same holds for the device, for which NixOS has a
      # default of its own if the type is tmpfs.
      fileSystems."/" = {
        device = mkIf (isNfs "/") (mkDefault "${server}:${nfsRoot.path}");
        fsType = mkDefault "nfs";
        options = mkIf (isNfs "/") nfsOptions;
      };
      # Nothing needs the boot tree after the boot. A person can mount it to look at its files.
      fileSystems."/boot/firmware" = {
        device = mkIf (isNfs "/boot/firmware") (
          mkDefault "${server}:${lib.removeSuffix "/" (dirOf nfsRoot.path)}/boot"
        );
        fsType = mkDefault "nfs";
        options = mkIf (isNfs "/boot/firmware") (nfsOptions ++ [ "noauto" "nofail" ]);
      };

      # The loader comes over the network, and there is no disk for another loader. The option
      # boot.loader.external would be an error together with the loader of an existing configuration;
      # at this priority, such a loader takes the place of the hook.
      boot.loader.grub.enable = mkDefault false;
      system.build.installBootLoader = mkDefault (import ./publish.nix { inherit pkgs; });
      # The installer of a loader would append the secrets to the initrd. But it never runs for this
      # image, so Nix must put the secrets into the initrd.
      boot.loader.supportsInitrdSecrets = lib.mkOverride 90 false;

      # Before the person's parameters, because the last panic= counts.
      boot.kernelParams = lib.mkBefore (
        lib.optionals (cfg.retryAfter != null) (import ./start-again.nix cfg.retryAfter)
        # The numbers of files from `netimage serve` have 64 bits. A 32-bit program that was built
        # without support for large files could not look at any file.
        ++ lib.optional pkgs.stdenv.hostPlatform.is32bit "nfs.enable_ino64=0"
      );

      boot.initrd = {
        supportedFilesystems = [ "nfs" ];
        kernelModules = [
          "nfs"
          (if isVersion4 then "nfsv4" else "nfsv3")
        ];
        availableKernelModules = lib.concatMap modulesOf chosen;
        network.enable = mkDefault true;
        network.flushBeforeStage2 = mkDefault false;
      };
    }

    {
      warnings = lib.optional (isIpv6 && !stage1IsSystemd && isNfs "/") ''
        netImage.nfsRoot names an IPv6 address, but scripted stage 1 asks only for an IPv4 address.
        Set boot.initrd.systemd.enable = true.'';
    }

    # All machines of one image have the same name in stage 1. A server of version 4 would take them
    # for one client, and each machine that boots would take the locks of the others.
    (lib.optionalAttrs (options.boot.initrd ? postDeviceCommands) {
      boot.initrd.postDeviceCommands = mkIf (isVersion4 && !stage1IsSystemd) nameNfs4Client;
    })

    # NixOS kills the process before stage 2. It is not started if a person asked for a shell in
    # stage 1 (boot.shell_on_fail, boot.debug1).
    (lib.optionalAttrs (options.boot.initrd ? preDeviceCommands) {
      boot.initrd.preDeviceCommands = mkIf (cfg.stage1TimeLimit != null && !stage1IsSystemd) ''
        if [ -z "$allowShell" ]; then
          (
            sleep ${toString cfg.stage1TimeLimit} &&
              echo "netimage: stage 1 takes more than ${toString cfg.stage1TimeLimit} seconds, so the machine starts again" &&
              reboot -f
          ) &
        fi
      '';
    })

    (lib.optionalAttrs (options.boot.initrd.network ? udhcpc.enable) {
      boot.initrd.network.udhcpc = mkIf (!stage1IsSystemd) {
        enable = mkDefault true;
        # 36 seconds instead of nine: a switch with a spanning tree blocks all packets for thirty
        # seconds after an interface comes up.
        extraArgs = mkDefault [
          "-t"
          "12"
        ];
      };
    })

    (lib.optionalAttrs (options.boot.initrd ? systemd) {
      boot.initrd.systemd = mkIf stage1IsSystemd {
        # boot.initrd.network.enable also enables this network.
        network = {
          networks."98-netimage-root" = rootNetwork;
          # Only one of several interfaces may lead to the server.
          wait-online.anyInterface = mkDefault true;
        };
        initrdBin = [ nfsHelpers ];
        # mount.nfs looks up tcp in both files.
        contents = {
          "/etc/netconfig".source = mkDefault "${pkgs.libtirpc}/etc/netconfig";
          "/etc/protocols".source = mkDefault config.environment.etc.protocols.source;
        };
        # The job of this target lasts as long as stage 1.
        targets = mkIf (cfg.stage1TimeLimit != null) {
          initrd.unitConfig = {
            JobTimeoutSec = mkDefault cfg.stage1TimeLimit;
            JobTimeoutAction = mkDefault "reboot-immediate";
          };
        };
        services = mkIf isVersion4 {
          nfs4-client-name = {
            description = "Tell NFSv4 servers which machine this is";
            unitConfig.DefaultDependencies = false;
            wantedBy = [ "initrd-root-fs.target" ];
            wants = [ "network-online.target" ];
            after = [
              "network-online.target"
              "systemd-modules-load.service"
            ];
            before = [ "sysroot.mount" ];
            serviceConfig.Type = "oneshot";
            script = nameNfs4Client;
          };
        };
      };
    })

    {
      # The network managers of stage 2 must not change the interface that carries the root.
      networking.dhcpcd.persistent = mkDefault true;
      networking.networkmanager.unmanaged = mkIf config.networking.networkmanager.enable [
        "type:ethernet"
      ];
      # The name sorts after a person's networks and before NixOS's networks for all interfaces.
      systemd.network.networks = mkIf config.systemd.network.enable {
        "98-netimage-root" = rootNetwork;
      };
    }

    # If the board has a watchdog, it restarts a machine whose kernel hangs, or whose systemd does
    # nothing for this time. systemd may have to wait for the server, so the time is longer than a
    # restart of the server takes. Since 25.11 the option has the name that systemd gives it.
    {
      systemd =
        if options.systemd ? settings then
          { settings.Manager.RuntimeWatchdogSec = mkDefault "10min"; }
        else
          { watchdog.runtimeTime = mkDefault "10min"; };
    }

    {
      systemd.services.netimage-bless = bless.good;
      systemd.services.netimage-not-good = bless.notGood;
      systemd.targets.boot-complete = bless.target;
    }

    (mkIf cfg.site.rebootWhenAsked {
      systemd.services.netimage-restart = restart.service;
      systemd.timers.netimage-restart = restart.timer;
    })

    # Like the unit of nixpkgs's images, but with another name, because virtual machines already
    # have a unit with nixpkgs's name.
    (mkIf (config.nix.enable && registration.isUnit) {
      systemd.services.register-net-image = registration.unit;
    })
    (lib.optionalAttrs (options.boot ? postBootCommands) {
      boot.postBootCommands = mkIf (config.nix.enable && !registration.isUnit) registration.commands;
    })
  ];
}

# A NixOS system as a net image: `config.system.build.netImage`. Importing it is enough.
#
# Only what every release since 24.05 has is set without asking for it first.
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
  # Where it is missing an assertion says so.
  server = toString nfsRoot.server;
  isIpv6 = lib.hasPrefix "[" server;
  nfsOptions = [
    "vers=${nfsRoot.version}"
    (if isIpv6 then "proto=tcp6" else "proto=tcp")
  ]
  # Version 3 locks through programs that do not run before there is a root.
  ++ optional (!isVersion4) "nolock"
  ++ nfsRoot.options;

  isNfs = mountPoint: lib.hasPrefix "nfs" config.fileSystems.${mountPoint}.fsType;

  boards = import ./boards.nix;
  chosen = map (name: boards.${name}) cfg.boards;
  # In Raspberry Pi's own kernel other drivers are modules than in that of kernel.org.
  inherit (config.boot.kernelPackages) kernel;
  isRaspberryPiKernel =
    lib.hasInfix "rpi" (kernel.pname or "")
    # Before 24.11 its name does not tell.
    || lib.hasInfix "raspberrypi" (kernel.src.meta.homepage or "");
  modulesOf =
    board:
    board.modules
    ++ (if isRaspberryPiKernel then board.ofRaspberryPiKernel or [ ] else board.ofKernelOrg or [ ]);
  hasRaspberryPi = lib.any (board: board.isRaspberryPi) chosen;

  stage1IsSystemd = options.boot.initrd ? systemd && config.boot.initrd.systemd.enable;

  # The interface that the root comes through keeps what stage 1 has given it. It also keeps its
  # address: a DHCP server gives another one to a client that changes its identifier.
  rootNetwork = {
    matchConfig = {
      Type = "ether";
      # No bridges, no ends of containers.
      Kind = "!*";
    };
    networkConfig = {
      DHCP = if isIpv6 then "yes" else "ipv4";
      KeepConfiguration = "yes";
    };
    dhcpV4Config.ClientIdentifier = "mac";
  };

  # The same for the networks that a person or NixOS makes. It is a key of each network: systemd
  # ignores it in networkd.conf.
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

  # util-linux, with which systemd mounts, looks for helpers in /sbin of the initrd. What extraBin
  # adds is in /bin alone before nixpkgs 24.11.
  nfsHelpers = pkgs.runCommand "nfs-mount-helpers" { } ''
    mkdir -p $out/sbin
    ln -s ${pkgs.nfs-utils}/bin/mount.nfs ${pkgs.nfs-utils}/bin/mount.nfs4 $out/sbin
  '';

  # What the server knows it by is said once, before the first mount.
  nameNfs4Client = ''
    cat /sys/class/net/*/device/net/*/address | head -n 1 > /sys/module/nfs/parameters/nfs4_unique_id
  '';

  registration = import ./registration.nix { inherit config lib pkgs; };

  # As docs/options.md has them: what is not set is not there.
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
        Where the machine mounts its root from, as the kernel's `nfsroot=` has it:
        `server:/path,options`. The file systems' devices and options follow from it.
      '';
    };

    populateFirmwareCommands = mkOption {
      type = types.lines;
      default = "";
      example = literalExpression ''"cp ''${pkgs.ubootRaspberryPi4_64bit}/u-boot.bin ."'';
      description = ''
        Shell commands. What they make in their working directory becomes the boot tree, and counts
        before what netimage puts there. They see `$out`, `$rootfs` and `$bootfs`.
      '';
    };

    populateRootCommands = mkOption {
      type = types.lines;
      default = "";
      example = "mkdir -p files/srv";
      description = ''
        Shell commands. What they make in `./files` becomes part of the root tree. They see `$out`,
        `$rootfs` and `$bootfs`.
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
        Ways of booting that the boot tree is made for. `null`: what the system calls for. An empty
        list leaves the boot tree to {option}`netImage.populateFirmwareCommands`.
      '';
    };

    boards = mkOption {
      type = types.listOf (types.enum (builtins.attrNames boards));
      default = lib.optionals pkgs.stdenv.hostPlatform.isx86_64 [ "pc" "virtual" ];
      defaultText = literalExpression ''[ "pc" "virtual" ] for x86_64, else [ ]'';
      example = [ "raspberry-pi-4" ];
      description = ''
        Machines that boot the image: stage 1 gets the drivers of their network. A kernel that does
        not have these drivers fails to build its initrd.
      '';
    };

    deviceTree = mkOption {
      type = types.nullOr types.str;
      default = config.hardware.deviceTree.name or null;
      defaultText = literalExpression "config.hardware.deviceTree.name";
      example = "rockchip/rk3399-rockpro64.dtb";
      description = ''
        The device tree that U-Boot is to load, of those that the system has. `null`: the one that
        U-Boot chooses for its board.
      '';
    };

    firmware = mkOption {
      type = types.nullOr types.path;
      default = if hasRaspberryPi then "${pkgs.raspberrypifw}/share/raspberrypi/boot" else null;
      defaultText = literalExpression ''"''${pkgs.raspberrypifw}/share/raspberrypi/boot", for a Raspberry Pi'';
      description = "The Raspberry Pi's firmware.";
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
      description = "A directory with iPXE's loaders, to be copied into the boot tree.";
    };

    uefiStub = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "systemd's stub for UEFI, where the system's closure has none.";
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
        Seconds after which a machine whose stage 1 finds no root starts again, by
        `boot.panic_on_fail` and `panic=` on the kernel line. After a power failure machines are
        often up before their server. `null`: stage 1 waits for a person at the console.
      '';
    };

    silence = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "no-nfs-helper" ];
      description = "Rules of `netimage check` that are left out, here and when the image is built.";
    };
  };

  config = mkMerge [
    {
      netImage.storePaths = [ config.system.build.toplevel ];

      system.build.netImage = imageAs "directory";
      system.build.netImageTarball = imageAs "tar";

      # A virtual machine that is made for trying the system out has a root of its own.
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
      # Nothing waits for the boot tree: it is there for a person who wants to look.
      fileSystems."/boot/firmware" = {
        device = mkIf (isNfs "/boot/firmware") (
          mkDefault "${server}:${lib.removeSuffix "/" (dirOf nfsRoot.path)}/boot"
        );
        fsType = mkDefault "nfs";
        options = mkIf (isNfs "/boot/firmware") (nfsOptions ++ [ "noauto" "nofail" ]);
      };

      # The loader comes over the network: there is no disk to install one to.
      boot.loader.grub.enable = mkDefault false;
      # An installer of a loader would append the secrets to the initrd. It never runs for this
      # image, whatever loader the configuration has for other machines.
      boot.loader.supportsInitrdSecrets = lib.mkOverride 90 false;

      # Before those of the person, so that their panic= counts.
      boot.kernelParams = mkIf (cfg.retryAfter != null) (
        lib.mkBefore [
          "boot.panic_on_fail"
          "panic=${toString cfg.retryAfter}"
        ]
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
        netImage.nfsRoot names an IPv6 address, but scripted stage 1 asks for an IPv4 address only.
        Set boot.initrd.systemd.enable = true.'';
    }

    # Machines of one image have one name in stage 1. To a server of version 4 they would be one
    # client, and take each other's locks away.
    (lib.optionalAttrs (options.boot.initrd ? postDeviceCommands) {
      boot.initrd.postDeviceCommands = mkIf (isVersion4 && !stage1IsSystemd) nameNfs4Client;
    })

    (lib.optionalAttrs (options.boot.initrd.network ? udhcpc.enable) {
      boot.initrd.network.udhcpc = mkIf (!stage1IsSystemd) {
        enable = mkDefault true;
        # 36 seconds, not nine: a switch that runs a spanning tree lets nothing through for thirty
        # seconds after an interface comes up.
        extraArgs = mkDefault [
          "-t"
          "12"
        ];
      };
    })

    (lib.optionalAttrs (options.boot.initrd ? systemd) {
      boot.initrd.systemd = mkIf stage1IsSystemd {
        # Enabled by boot.initrd.network.enable.
        network = {
          networks."98-netimage-root" = rootNetwork;
          # One of several interfaces is the one with the server.
          wait-online.anyInterface = mkDefault true;
        };
        initrdBin = [ nfsHelpers ];
        # mount.nfs looks up its protocols in both, and knows no tcp without them.
        contents = {
          "/etc/netconfig".source = mkDefault "${pkgs.libtirpc}/etc/netconfig";
          "/etc/protocols".source = mkDefault config.environment.etc.protocols.source;
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
      # Whatever manages the network in stage 2 leaves the root's interface alone.
      networking.dhcpcd.persistent = mkDefault true;
      networking.networkmanager.unmanaged = mkIf config.networking.networkmanager.enable [
        "type:ethernet"
      ];
      # After what a person names, before what NixOS generates for every interface.
      systemd.network.networks = mkIf config.systemd.network.enable {
        "98-netimage-root" = rootNetwork;
      };
    }

    # As the release's own images do it, under another name: virtual machines have a unit of that one.
    (mkIf (config.nix.enable && registration.isUnit) {
      systemd.services.register-net-image = registration.unit;
    })
    (lib.optionalAttrs (options.boot ? postBootCommands) {
      boot.postBootCommands = mkIf (config.nix.enable && !registration.isUnit) registration.commands;
    })
  ];
}

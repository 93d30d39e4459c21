# The server as a service of NixOS: `services.netimage`.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkIf
    mkOption
    optional
    optionals
    types
    ;

  cfg = config.services.netimage;
  stateDirectory = "/var/lib/netimage";

  # Of a NixOS configuration with netimage's module, the directory of its net image.
  directoryOf =
    system:
    if system ? config.system.build.netImage then
      "${system.config.system.build.netImage}/net-image"
    else
      toString system;

  # The site knows the names only when its file has been applied, and the server starts before that.
  addressesOf =
    name:
    let
      macs = cfg.machines.${name}.mac or name;
    in
    if builtins.isList macs then macs else [ macs ];

  siteFile = pkgs.writeText "site.json" (
    builtins.toJSON {
      group = builtins.mapAttrs (
        _: settings: settings // { system = directoryOf settings.system; }
      ) cfg.groups;
      machine = cfg.machines;
    }
  );

  flag = name: value: optionals (value != null) [ "--${name}" (toString value) ];
  flags = name: values: lib.concatMap (flag name) values;
  fullOnly =
    flag "range" cfg.dhcp.range
    ++ flag "network" cfg.dhcp.network
    ++ flags "reserve" (
      map (machine: "${machine}=${cfg.dhcp.reservations.${machine}}") (
        builtins.attrNames cfg.dhcp.reservations
      )
    )
    ++ flags "router" cfg.dhcp.routers
    ++ flags "dns" cfg.dhcp.nameServers;
  command = [
    "${cfg.package}/bin/netimage"
    "serve"
  ]
  ++ map directoryOf cfg.images
  ++ flag "state" stateDirectory
  ++ flag "interface" cfg.interface
  ++ flags "allow" (if cfg.allow == "any" then [ "any" ] else lib.concatMap addressesOf cfg.allow)
  ++ flag "dhcp" cfg.dhcp.mode
  ++ fullOnly
  ++ flag "http-port" cfg.ports.http
  ++ flag "nfs-port" cfg.ports.nfs
  ++ optional (!cfg.portMapper) "--no-port-mapper"
  ++ flag "page" cfg.page
  ++ cfg.extraFlags;

  addressOption =
    description:
    mkOption {
      type = types.nullOr types.str;
      default = null;
      inherit description;
    };
  addressesOption =
    description:
    mkOption {
      type = types.listOf types.str;
      default = [ ];
      inherit description;
    };
  portOption =
    default: description:
    mkOption {
      type = types.port;
      inherit default description;
    };
in
{
  options.services.netimage = {
    enable = mkEnableOption "netimage, the server that boots machines without disks over the network";

    package = mkOption {
      type = types.package;
      default = pkgs.netimage;
      defaultText = literalExpression "pkgs.netimage";
      description = "The package of netimage.";
    };

    interface = mkOption {
      type = types.str;
      example = "eth1";
      description = "The network interface on which the machines are. The server answers only there.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to open the ports of the server in the firewall, on `interface` only.";
    };

    allow = mkOption {
      type = types.either (types.enum [ "any" ]) (types.listOf types.str);
      default = [ ];
      example = [
        "dc:a6:32:01:02:03"
        "pi2"
      ];
      description = ''
        The machines that may boot: hardware addresses, IP addresses, or names in `machines` or in the
        site; or `"any"` for all machines on the network.
      '';
    };

    images = mkOption {
      type = types.listOf types.raw;
      default = [ ];
      example = literalExpression "[ self.nixosConfigurations.lab ]";
      description = ''
        A machine for which nobody chose an image gets the one of these for its processor: NixOS
        configurations with netimage's module, or directories of images.
      '';
    };

    groups = mkOption {
      type = types.attrsOf (types.attrsOf types.raw);
      default = { };
      example = literalExpression ''
        {
          lab = {
            system = self.nixosConfigurations.lab;
            machines = [ "pi1" "dc:a6:32:*" ];
            waves = [ [ "pi1" ] "25%" "rest" ];
          };
        }
      '';
      description = ''
        The groups of the site, with the keys of the site's file. `system` can also be a NixOS configuration
        with netimage's module. They are in {file}`/etc/netimage/site.json`. The server changes nothing by
        itself: `netimage site plan --file /etc/netimage/site.json` shows what would change, and
        `netimage site apply --file /etc/netimage/site.json` begins it.
      '';
    };

    machines = mkOption {
      type = types.attrsOf (types.attrsOf types.raw);
      default = { };
      example = literalExpression ''{ pi1.mac = "dc:a6:32:01:02:03"; }'';
      description = "The machines of the site by their names, with the keys of the site's file.";
    };

    dhcp = {
      mode = mkOption {
        type = types.enum [
          "proxy"
          "full"
          "off"
        ];
        default = "proxy";
        description = ''
          `proxy`: another DHCP server gives the addresses. `full`: this server gives them. `off`: another
          server also tells machines what to boot.
        '';
      };
      range = addressOption "With `full`: the addresses to give, as in `10.0.0.100-10.0.0.199`.";
      network = addressOption "With `full`: the network, as in `10.0.0.0/24`. By default that of the interface.";
      reservations = mkOption {
        type = types.attrsOf types.str;
        default = { };
        example = {
          "dc:a6:32:01:02:03" = "10.0.0.7";
        };
        description = "With `full`: addresses of machines by their hardware addresses.";
      };
      routers = addressesOption "With `full`: the routers of the network, the best first.";
      nameServers = addressesOption "With `full`: name servers, the best first.";
    };

    ports = {
      http = portOption 80 "The port of HTTP boot.";
      nfs = portOption 2049 "The port of NFS.";
    };

    portMapper = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether to serve a port mapper. Without one, machines get the port of NFS from their mount options,
        `port` and `mountport`.
      '';
    };

    page = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "10.0.0.1:8080";
      description = ''
        The address and port of the status page, or `off`. By default it is at `127.0.0.1:8080` if this port is
        free. There is no password: everybody who can reach the address sees all machines. `openFirewall` does
        not open its port.
      '';
    };

    extraFlags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--layer-size=20G" ];
      description = "Further flags of `netimage serve`.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = !(cfg.portMapper && config.services.rpcbind.enable);
        message = ''
          services.netimage and services.rpcbind both want port 111. NFS of version 2 and 3 enables rpcbind.
          Set services.netimage.portMapper = false, and name the port of NFS in the mount options of the
          machines (port and mountport), or set services.rpcbind.enable = false.
        '';
      }
      {
        assertion = !(config.services.nfs.server.enable && cfg.ports.nfs == 2049);
        message = ''
          services.netimage and services.nfs.server both want port 2049. Set services.netimage.ports.nfs,
          and name the port in the mount options of the machines (port and mountport), or switch off
          services.nfs.server.
        '';
      }
      {
        assertion = cfg.dhcp.mode == "full" || fullOnly == [ ];
        message = ''
          services.netimage.dhcp has settings that need mode = "full", because the DHCP server of the network
          tells this to machines: ${toString fullOnly}
        '';
      }
      {
        assertion = cfg.dhcp.mode != "full" || cfg.dhcp.range != null;
        message = ''
          services.netimage.dhcp.range is missing: with mode = "full", the server needs the addresses that it
          may give, such as "10.0.0.100-10.0.0.199".
        '';
      }
    ];

    environment.systemPackages = [ cfg.package ];
    environment.etc."netimage/site.json".source = siteFile;

    # Not a dynamic user: the commands for the site run as this user.
    users.users.netimage = {
      isSystemUser = true;
      group = "netimage";
      home = stateDirectory;
      description = "netimage";
    };
    users.groups.netimage = { };

    networking.firewall.interfaces = mkIf cfg.openFirewall {
      ${cfg.interface} = {
        allowedTCPPorts = [
          cfg.ports.http
          cfg.ports.nfs
        ]
        ++ optional cfg.portMapper 111;
        allowedUDPPorts = [
          # TFTP, whose port loaders cannot choose.
          69
          # MOUNT of NFS 3.
          cfg.ports.nfs
        ]
        ++ optional cfg.portMapper 111
        ++ optional (cfg.dhcp.mode != "off") 67
        ++ optional (cfg.dhcp.mode == "proxy") 4011;
      };
    };

    # The unit is the package's own, with its limits. Without it, nothing starts.
    systemd.packages = [ cfg.package ];
    systemd.services.netimage = {
      overrideStrategy = "asDropin";
      wantedBy = [ "multi-user.target" ];
      # The restart commands of the site's file are mostly ssh.
      path = [
        pkgs.util-linux
        pkgs.openssh
      ];
      # The empty one removes the command of the unit.
      serviceConfig.ExecStart = [
        ""
        (utils.escapeSystemdExecArgs command)
      ];
    };
  };
}

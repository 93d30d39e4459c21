{
  description = "Boot NixOS over the network";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      forSystems = lib.genAttrs systems;
      forLinux = lib.genAttrs (lib.filter (lib.hasSuffix "-linux") systems);
      packageOf = system: nixpkgs.legacyPackages.${system}.callPackage ./nix/package.nix { };
    in
    {
      packages = forSystems (system: rec {
        netimage = packageOf system;
        default = netimage;
      });

      apps = forSystems (system: rec {
        netimage = {
          type = "app";
          program = "${self.packages.${system}.netimage}/bin/netimage";
          meta.description = "Boot NixOS over the network";
        };
        default = netimage;
      });

      overlays.default = final: _: { netimage = final.callPackage ./nix/package.nix { }; };

      nixosModules = rec {
        # Uses the program of this flake, because an older release of the system has no new Node.js.
        netimage =
          { lib, pkgs, ... }:
          {
            # Importing the module twice is the same as importing it once.
            key = "netimage";
            imports = [ ./nix/module.nix ];
            netImage.package = lib.mkDefault self.packages.${pkgs.stdenv.buildPlatform.system}.netimage;
          };
        default = netimage;

        server =
          { lib, pkgs, ... }:
          {
            key = "netimage-server";
            imports = [ ./nix/server.nix ];
            services.netimage.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.netimage;
          };
      };

      templates.default = {
        path = ./nix/template;
        description = "A Raspberry Pi that boots over the network";
      };

      checks = forLinux (
        system:
        {
          package = self.packages.${system}.netimage;
        }
        // lib.optionalAttrs (system == "x86_64-linux") {
          # Only QEMU's x86_64 machines have firmware that boots over the network.
          boot = import ./nix/tests/boot.nix {
            inherit nixpkgs system;
            module = self.nixosModules.default;
          };
          server = import ./nix/tests/server.nix {
            inherit nixpkgs system;
            inherit (self.nixosModules) default server;
          };
        }
      );
    };
}

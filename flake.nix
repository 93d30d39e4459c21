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
        # With this flake's own program, whose Node.js is new enough, whatever release the system is of.
        netimage =
          { lib, pkgs, ... }:
          {
            # Whoever imports it twice has one of it.
            key = "netimage";
            imports = [ ./nix/module.nix ];
            netImage.package = lib.mkDefault self.packages.${pkgs.stdenv.buildPlatform.system}.netimage;
          };
        default = netimage;
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
          # QEMU's other machines have no firmware of their own that boots over the network.
          boot = import ./nix/tests/boot.nix {
            inherit nixpkgs system;
            module = self.nixosModules.default;
          };
        }
      );
    };
}

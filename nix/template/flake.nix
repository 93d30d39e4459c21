{
  description = "A Raspberry Pi that boots over the network";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    netimage.url = "github:netimage/netimage";
  };

  # Build the image:  nix run github:netimage/netimage -- build .#pi --output ./pi
  # Serve it:         sudo nix run github:netimage/netimage -- serve ./pi --allow any
  outputs =
    { nixpkgs, netimage, ... }:
    {
      nixosConfigurations.pi = nixpkgs.lib.nixosSystem {
        system = "aarch64-linux";
        modules = [
          netimage.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}

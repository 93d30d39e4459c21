{
  description = "A Raspberry Pi that boots over the network";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    netimage.url = "github:netimage/netimage";
  };

  # Build the image:     nix build .#nixosConfigurations.pi.config.system.build.netImage
  # Configure a server:  nix run github:netimage/netimage -- servers dnsmasq ./result
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

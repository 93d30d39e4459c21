# The machine without a disk that tests boot.
{
  nixpkgs,
  system,
  # The module of netimage's flake.
  module,
  nfsRoot,
}:

nixpkgs.lib.nixosSystem {
  inherit system;
  modules = [
    module
    (
      { modulesPath, ... }:
      {
        imports = [
          "${modulesPath}/testing/test-instrumentation.nix"
          "${modulesPath}/profiles/minimal.nix"
        ];
        netImage = {
          inherit nfsRoot;
          boards = [ "virtual" ];
          boot = [ "ipxe" ];
        };
        networking.hostName = "client";
        system.stateVersion = "26.05";
      }
    )
  ];
}

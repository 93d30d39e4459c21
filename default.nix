# The program, for those without flakes. The NixOS module is a file:
#
#   imports = [ "${fetchTarball "…"}/nix/module.nix" ];
{
  pkgs ? import <nixpkgs> { },
}:

pkgs.callPackage ./nix/package.nix { }

# For those without flakes: the program, and the module's path as `module`.
#
#   imports = [ (import (fetchTarball "…") { inherit pkgs; }).module ];
{
  pkgs ? import <nixpkgs> { },
}:

(pkgs.callPackage ./nix/package.nix { }) // { module = ./nix/module.nix; }

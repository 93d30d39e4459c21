# The closure of a path as JSON. nixpkgs's closureInfo makes a registration from this JSON.
{
  # The store path of a busybox with its applets (see addBuilderShell).
  shell,
  root,
}:

derivation {
  name = "closure-info";
  system = builtins.currentSystem;
  builder = "${builtins.storePath shell}/bin/sh";
  args = [
    "-euc"
    # `.attrs.sh` has arrays for bash. The shell of busybox cannot read them, so use sed.
    ''
      PATH=${builtins.storePath shell}/bin
      out=$(sed -n "s|.*\[.out.\]=.\(/nix/store/[^']*\).*|\1|p" .attrs.sh)
      cp .attrs.json $out
    ''
  ];
  __structuredAttrs = true;
  exportReferencesGraph.closure = [ (builtins.storePath root) ];
}

# The closure of a path as JSON: what nixpkgs's closureInfo makes a registration of.
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
    # Attributes are handed over for bash, which has arrays.
    ''
      PATH=${builtins.storePath shell}/bin
      out=$(sed -n "s|.*\[.out.\]=.\(/nix/store/[^']*\).*|\1|p" .attrs.sh)
      cp .attrs.json $out
    ''
  ];
  __structuredAttrs = true;
  exportReferencesGraph.closure = [ (builtins.storePath root) ];
}

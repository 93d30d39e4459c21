# The derivation of a system's net image. netimage makes the image from the closure.
{
  lib,
  closureInfo,
  runCommand,
  writeText,
  netimage,
}:

{
  toplevel,
  storePaths,
  # Options by their names in docs/options.md.
  settings,
  # `directory`, or `tar` for a root with owners and modes that the Nix store does not keep.
  format,
}:

let
  suffix = lib.optionalString (format == "tar") "-tar";
  # Includes the toplevel even if somebody has replaced storePaths with lib.mkForce.
  closure = closureInfo { rootPaths = lib.unique ([ toplevel ] ++ storePaths); };
  settingsFile = writeText "net-image-settings.json" (builtins.toJSON settings);
in
runCommand (lib.strings.sanitizeDerivationName "${settings.rootDirectoryName}${suffix}")
  {
    nativeBuildInputs = [ netimage ];
    preferLocalBuild = true;
    # The image contains all paths that it mentions, so copying it need not copy the system as well.
    __structuredAttrs = true;
    unsafeDiscardReferences.out = true;
    passthru = {
      closureInfo = closure;
      # For `netimage build .#host`.
      settings = settingsFile;
    };
  }
  ''
    export HOME=$TMPDIR
    mkdir $out
    # The pool lies beside the image, so each file is written once and then linked.
    netimage build ${toplevel} --from ${closure} --config ${settingsFile} --format ${format} \
      --pool $out/pool --link hardlink --output $out/image
    mv $out/image/* $out
    # The pool's folders are read-only. Its files are also the image's, so their modes must stay.
    find $out/pool -type d -exec chmod u+w {} +
    rm -rf $out/pool $out/image
  ''

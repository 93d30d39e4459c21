# The net image of a NixOS system, as a derivation: the program makes it from the closure.
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
  # What docs/options.md has, by the names that are there.
  settings,
  # `directory`, or `tar` for a root with owners and modes that the Nix store does not keep.
  format,
}:

let
  suffix = lib.optionalString (format == "tar") "-tar";
  # Also where somebody has forced the others to be a list of their own.
  closure = closureInfo { rootPaths = lib.unique ([ toplevel ] ++ storePaths); };
  settingsFile = writeText "net-image-settings.json" (builtins.toJSON settings);
in
runCommand (lib.strings.sanitizeDerivationName "${settings.rootDirectoryName}${suffix}")
  {
    nativeBuildInputs = [ netimage ];
    preferLocalBuild = true;
    # The image has in itself what it refers to: whoever copies it need not copy the system, too.
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
    # The pool lies beside the image, so that each file is written once and then linked.
    netimage build ${toplevel} --from ${closure} --config ${settingsFile} --format ${format} \
      --pool $out/pool --link hardlink --output $out/image
    mv $out/image/* $out
    # Its folders are read-only, also for their owner; its files are those of the image.
    find $out/pool -type d -exec chmod u+w {} +
    rm -rf $out/pool $out/image
  ''

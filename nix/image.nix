# The net image of a NixOS system, as a derivation: the program makes it from the closure.
{
  lib,
  runCommand,
  closureInfo,
  netimage,
}:

{
  name,
  toplevel,
  # The options of the image, as docs/options.md has them.
  options,
  # More flags of `netimage build`.
  flags ? [ ],
  # `directory`, or `tar` for a root with owners and modes that the Nix store does not keep.
  format ? "directory",
}:

runCommand name
  {
    nativeBuildInputs = [ netimage ];
    closure = closureInfo { rootPaths = [ toplevel ] ++ options.storePaths; };
    settings = builtins.toJSON options;
    passAsFile = [ "settings" ];
    preferLocalBuild = true;
  }
  ''
    export HOME=$TMPDIR
    cp "$settingsPath" settings.json
    mkdir $out
    # The pool lies beside the image, so that each file is written once and then linked; what is left
    # of the pool afterwards are names.
    netimage build ${toplevel} --from "$closure" --config settings.json --format ${format} \
      --pool "$out/pool" --link hardlink --output "$out/image" \
      ${lib.escapeShellArgs flags}
    mv "$out"/image/* "$out"
    # Its folders are read-only, also for their owner; its files are those of the image.
    find "$out/pool" -type d -exec chmod u+w {} +
    rm -rf "$out/pool" "$out/image"
  ''

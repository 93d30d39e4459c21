# Splits a text in the form of the kernel's `nfsroot=`: `[<server>:]<path>[,<options>]`.
# https://docs.kernel.org/admin-guide/nfs/nfsroot.html
{ lib }:

text:

let
  parts = builtins.match "((\\[[0-9a-fA-F:.]+]|[^,:/[:space:]]+):)?(/[^,[:space:]]*)(,([^[:space:]]*))?" text;
  part = index: if parts == null then null else builtins.elemAt parts index;

  words = lib.filter (word: word != "") (lib.splitString "," (if part 4 == null then "" else part 4));
  versionOf = builtins.match "(v|vers=|nfsvers=)([234](\\.[0-2])?)";
  versions = map (word: builtins.elemAt (versionOf word) 1) (
    lib.filter (word: versionOf word != null) words
  );
in
{
  isValid = parts != null;
  # null means the server that gave the machine its address.
  server = part 1;
  path = if parts == null || part 2 == "/" then "/" else lib.removeSuffix "/" (part 2);
  # In the form of the mount option vers=: "3", "4.2".
  version = if versions == [ ] then "3" else lib.last versions;
  options = lib.filter (word: versionOf word == null) words;
}

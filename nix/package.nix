# The program netimage. The build needs no network: the sources run without a build step, and
# ./dependencies has copies of the modules that netimage needs (see scripts/bundle-dependencies.ts).
#
# buildNpmPackage with importNpmLock would need no copies and no hash. But it fetches each module
# from its address in the lock file, and our lock file has no addresses. nixpkgs 24.05 and later
# fail:
#
#   error: attribute 'resolved' missing, at pkgs/build-support/node/import-npm-lock/default.nix
#
# fetchNpmDeps reads the same addresses.
{
  lib,
  stdenvNoCC,
  makeWrapper,
  nodejs,
  # For releases whose nodejs is another version.
  nodejs_24 ? null,
  xz,
  bzip2,
}:

let
  # The field "engines" of package.json.
  isSupported =
    node:
    lib.versionAtLeast node.version "26"
    || (lib.versionAtLeast node.version "24.15" && !lib.versionAtLeast node.version "25");

  node = if isSupported nodejs || nodejs_24 == null then nodejs else nodejs_24;

  manifest = builtins.fromJSON (builtins.readFile ../package.json);

  parts = [
    "package.json"
    "LICENSE"
    "src"
    "nix/dependencies"
    "packaging/files/netimage.service"
  ];
  root = toString ../.;
in
stdenvNoCC.mkDerivation {
  pname = "netimage";
  inherit (manifest) version;

  src = builtins.path {
    name = "netimage-source";
    path = ../.;
    filter =
      path: _:
      let
        relative = lib.removePrefix "${root}/" (toString path);
      in
      lib.any (
        part:
        relative == part || lib.hasPrefix "${part}/" relative || lib.hasPrefix "${relative}/" part
      ) parts;
  };

  nativeBuildInputs = [ makeWrapper ];

  buildPhase =
    if isSupported node then
      "true"
    else
      ''
        echo "netimage needs Node.js 24.15 or later, and this nixpkgs has ${node.version}." >&2
        echo "Use the package of netimage's flake: netImage.package = inputs.netimage.packages.<system>.netimage;" >&2
        echo "or build the package with a newer nixpkgs: netImage.package = import <netimage> { pkgs = import <newer nixpkgs> { }; };" >&2
        exit 1
      '';

  # Node does not strip types below a folder with the name node_modules, so src must lie outside.
  installPhase = ''
    mkdir -p $out/bin $out/lib/netimage
    cp -r package.json LICENSE src $out/lib/netimage
    cp -r nix/dependencies $out/lib/netimage/node_modules
    mkdir -p $out/lib/systemd/system
    # Without Debian's paths.
    sed "s,^ExecStart=/usr,ExecStart=$out,; /^Documentation=/d; /default\/netimage/d" \
      packaging/files/netimage.service > $out/lib/systemd/system/netimage.service
    makeWrapper ${node}/bin/node $out/bin/netimage \
      --add-flags $out/lib/netimage/src/cli.ts \
      --suffix PATH : ${
        lib.makeBinPath [
          xz
          bzip2
        ]
      }
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    export HOME=$TMPDIR PATH=$out/bin:$PATH
    netimage --version | grep -Fx ${manifest.version}
    mkdir check
    (cd check && bash -eu ${./check.sh})
  '';

  meta = {
    inherit (manifest) description;
    license = lib.licenses.mit;
    mainProgram = "netimage";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}

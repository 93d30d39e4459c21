# Store paths of every shape that Nix can make, and one path that refers to all of them.
{
  # The store path of a busybox with its applets (see addBuilderShell).
  shell,
  # The store path of a file whose contents do not compress.
  noise,
  # The content-addressed form of selfReference. Nix has no expression that makes it.
  selfReferenceRewritten ? null,
}:

let
  busybox = builtins.storePath shell;
  noiseFile = builtins.storePath noise;

  makeWith =
    attributes: name: script:
    derivation (
      {
        inherit name;
        system = builtins.currentSystem;
        builder = "${busybox}/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = "${busybox}/bin";
      }
      // attributes
    );

  make = makeWith { };

  repeat = count: text: builtins.concatStringsSep "" (builtins.genList (_: text) count);

  # Each refers to the one before it.
  chain = builtins.foldl' (
    before: number:
    make "chain-${toString number}" ''
      mkdir $out
      echo "after ${before}" > $out/link
    ''
  ) (make "chain-0" "echo start > $out") (builtins.genList (index: index + 1) 5);

  multiple =
    makeWith
      {
        outputs = [
          "out"
          "dev"
          "doc"
        ];
      }
      "multiple"
      ''
        mkdir -p $out/lib $dev/include $doc/share
        echo library > $out/lib/library
        echo "$out/lib/library" > $dev/include/header
        echo "see $dev" > $doc/share/manual
      '';

  # Real systems have paths with several hundred references.
  manyReferences = make "many-references" ''
    echo "${
      builtins.concatStringsSep " " (
        builtins.genList (
          number: builtins.toFile "leaf-${toString number}" "leaf ${toString number}\n"
        ) 100
      )
    }" > $out
  '';

  shapes = {
    inherit chain manyReferences;

    multipleOut = multiple.out;
    multipleDev = multiple.dev;
    multipleDoc = multiple.doc;

    selfReference = selfReference;

    symlinks = make "symlinks" ''
      mkdir -p $out/below
      echo target > $out/target
      ln -s target $out/relative
      ln -s ../target $out/below/up
      ln -s ${chain}/link $out/absolute
      ln -s $out/target $out/into-itself
      ln -s below $out/directory
      ln -s /does/not/exist $out/dangling
      ln -s loop $out/loop
      ln -s "a b
      c" "$out/odd target"
      ln -s "$(printf 'caf\351')" $out/not-utf-8-target
      ln -s ${repeat 300 "../"}x $out/long
    '';

    executables = make "executables" ''
      mkdir -p $out/bin
      printf '#!/bin/sh\necho run\n' > $out/bin/run
      cp $out/bin/run $out/bin/not-run
      : > $out/bin/empty-run
      chmod +x $out/bin/run $out/bin/empty-run
    '';

    empties = make "empties" ''
      mkdir -p $out/directory $out/directories/a/b
      : > $out/file
    '';

    # NARs pad strings to eight bytes, and the buffers of readers have powers of two as sizes.
    sizes = make "sizes" ''
      mkdir $out
      for size in 0 1 2 3 4 5 6 7 8 9 15 16 17 4095 4096 4097 65535 65536 65537; do
        head -c $size ${noiseFile} > $out/$size
      done
    '';

    deep = make "deep" ''
      mkdir -p $out/${repeat 50 "d/"}
      echo bottom > $out/${repeat 50 "d/"}file
    '';

    oddNames = make "odd-names" ''
      mkdir $out
      cd $out
      for name in \
        "a b" " " " leading" "trailing " "new
      line" "~" "~tilde" "name~" .hidden ..two ... -dash "quote'" 'double"quote' 'back\slash' \
        '$dollar' '*' '?' '[x]' '%41' '#hash' 'a:b' 'a=b' "tab	tab" \
        README readme ReadMe 'readme~nix~case~hack~1' \
        ordered ordered-b ordered.b ordered0 \
        ${repeat 255 "n"}
      do
        echo "$name" > "$name"
      done
      mkdir "ordered.d" "directory of spaces" "$(printf 'dir\ntory')"
      echo inside > "directory of spaces/file of spaces"
      # Composed, decomposed, and two whose order differs between UTF-8 and UTF-16.
      for name in '\303\251' 'e\314\201' '\357\277\275' '\360\220\200\200' '\001' '\177'; do
        printf "$name" > "$(printf "$name")"
      done
    '';

    notUtf8Names = make "not-utf-8-names" ''
      mkdir $out
      cd $out
      for name in 'caf\351' '\377' '\300\257' 'cut\303'; do
        printf "$name" > "$(printf "$name")"
      done
      mkdir "$(printf 'dir\351ctory')"
      echo inside > "$(printf 'dir\351ctory/file')"
    '';

    large = make "large" ''
      mkdir $out
      cat ${noiseFile} > $out/incompressible
      yes 'the same line again' | head -c 4000001 > $out/compressible
      head -c 1000000 /dev/zero > $out/zeros
    '';

    file = make "file" "echo file > $out";
    emptyFile = make "empty-file" ": > $out";
    emptyDirectory = make "empty-directory" "mkdir $out";
    executableFile = make "executable-file" ''
      printf '#!/bin/sh\necho run\n' > $out
      chmod +x $out
    '';
    symlink = make "symlink" "ln -s ${chain} $out";
    danglingSymlink = make "dangling-symlink" "ln -s /does/not/exist $out";

    oddStoreName = make "0+Odd._name?v=1-x" "echo odd > $out";
    # With ".drv" the name of its derivation has the maximum length of a store path's name.
    longStoreName = make (repeat 207 "n") "echo long > $out";

    text = builtins.toFile "text" "no references\n";
    textWithReferences = builtins.toFile (repeat 211 "t") "see ${busybox} and ${noiseFile}\n";

    flatSha256 = makeWith {
      outputHashMode = "flat";
      outputHashAlgo = "sha256";
      outputHash = builtins.hashString "sha256" "fixed\n";
    } "flat-sha256" "echo fixed > $out";

    flatSha512 = makeWith {
      outputHashMode = "flat";
      outputHashAlgo = "sha512";
      outputHash = builtins.hashString "sha512" "fixed\n";
    } "flat-sha512" "echo fixed > $out";

    recursiveSha256 = makeWith {
      outputHashMode = "recursive";
      outputHashAlgo = "sha256";
      outputHash = "sha256-PLw1gKJbvRtVut7C3SPXEv3HW1FkEndghG4zSBSKt7s=";
    } "recursive-sha256" "mkdir $out; echo fixed > $out/file";

    recursiveSha1 = makeWith {
      outputHashMode = "recursive";
      outputHashAlgo = "sha1";
      outputHash = "sha1-g057TtTx7NUK5FrNpbu8QEXbv/c=";
    } "recursive-sha1" "mkdir $out; echo fixed > $out/file";

    sourceFlat = noiseFile;
    sourceTree = busybox;
  }
  // (
    if selfReferenceRewritten == null then
      { }
    else
      { selfReferenceRewritten = builtins.storePath selfReferenceRewritten; }
  );

  selfReference = make "self-reference" ''
    mkdir -p $out/bin
    ln -s $out/bin/hello $out/hello
    echo "echo hello from $out" > $out/bin/hello
    printf 'a hash in the middle of bytes: \001%s\002' $out > $out/bytes
  '';
in
{
  inherit selfReference;

  everything = make "everything" ''
    mkdir $out
    ${builtins.concatStringsSep "\n" (
      builtins.attrValues (
        builtins.mapAttrs (name: path: "ln -s ${path} $out/${name}") shapes
      )
    )}
  '';
}

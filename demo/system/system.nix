# A system in the shape of NixOS, made of Debian's packages. It is small enough to build and boot in
# a test, and has everything that netimage reads from a real system. prepare.sh downloads its parts.
#
# The build runs no program of the system, so any machine can build for any platform.
{
  # The directory that prepare.sh printed.
  prepared,
  # The store path of a static busybox with its applets that runs on the building machine.
  shell,
  # The platform of the machine that boots: x86_64-linux or aarch64-linux.
  system,
  label ? "25.11.20261122.demo",
  rootDevice ? "192.168.0.108:/mnt/nfsshare/nixos-net-image-${label}-${system}",
  rootOptions ? "vers=3,proto=tcp,nolock",
  rootType ? "nfs",
  # The directory that other-kernel.sh printed, for a system with another kernel.
  otherKernel ? "",
  # If this is not empty: the system has the kernel of User Mode Linux, which is a program of this machine.
  umlKernel ? "",
  # More parameters of the kernel line.
  kernelParams ? "",
  # For systems that do not boot: commands that change the files of the initrd, the numbers of bytes
  # that are kept of the initrd and of the kernel, and a file instead of stage-2.sh.
  changeInitrd ? "",
  initrdBytes ? "",
  kernelBytes ? "",
  stage2 ? "",
  # systemd's stub for UEFI. NixOS has it in systemd's package.
  uefiStub ? "",
  # After so many seconds, a machine that has no root starts again; default: the machine tries again.
  retryAfter ? "",
}:

let
  isX86 = system == "x86_64-linux";
  tools = builtins.storePath shell;

  runShell =
    args: name: environment:
    derivation (
      {
        inherit name args;
        system = builtins.currentSystem;
        builder = "${tools}/bin/sh";
        PATH = "${tools}/bin";
      }
      // environment
    );

  run = name: script: runShell [ "-eu" script ] name;
  runText = name: text: runShell [ "-euc" text ] name;

  source =
    name:
    builtins.path {
      name = baseNameOf name;
      path = "${prepared}/${name}";
    };
  readPrepared = name: builtins.readFile "${prepared}/${name}";

  # A script of the system. Its shebang is a path of the store, and its @words@ are replaced.
  script =
    name: file: words:
    runText name ''
      sed "s|@shell@|$shell|; ${
        builtins.concatStringsSep "; " (
          builtins.attrValues (builtins.mapAttrs (word: value: "s|@${word}@|${value}|g") words)
        )
      }" $file > $out
      chmod +x $out
    '' { inherit file; shell = "${busybox}/bin/sh"; };

  # --- Debian's packages, one store path each ------------------------------------------------

  packages = builtins.mapAttrs (
    name: _:
    runText name "cp -r $source $out" {
      source = builtins.path {
        inherit name;
        path = "${prepared}/packages/${name}";
      };
    }
  ) (builtins.readDir "${prepared}/packages");

  package =
    prefix:
    let
      names = builtins.filter (name: builtins.match "${prefix}-[0-9].*" name != null) (
        builtins.attrNames packages
      );
    in
    packages.${builtins.head names};

  libraryPackages = builtins.filter (
    path: path != package "busybox-static" && path != package "bash-static"
  ) (builtins.attrValues packages);

  # The loader searches one directory instead of fifty, which is much faster over NFS.
  libraries = runText "system-libraries" ''
    mkdir -p $out/lib
    for package in $packages; do
      [ ! -d $package/lib ] || ln -s $package/lib/* $out/lib
    done
  '' { packages = libraryPackages; };

  busybox = runText "busybox-links" ''
    mkdir -p $out/bin
    for applet in $(ls $tools/bin); do
      ln -s $package/bin/busybox $out/bin/$applet
    done
  '' { package = package "busybox-static"; inherit tools; };

  # Debian's programs need a loader in /lib64, which NixOS does not have. Each of these has a name and
  # the program in the package that it runs.
  wrap =
    name: package: programs:
    runText name ''
      mkdir -p $out/bin
      for program in $programs; do
        cat > $out/bin/''${program%=*} <<EOF
      #!$shell
      exec $libraries/lib/$loader --argv0 ''${program%=*} --library-path $libraries/lib $package/bin/''${program#*=} "\$@"
      EOF
        chmod +x $out/bin/''${program%=*}
      done
    '' {
      inherit libraries package programs;
      loader = readPrepared "loader";
      shell = "${busybox}/bin/sh";
    };

  nix = wrap "nix" (package "nix-bin") (
    map (name: "${name}=nix") [
      "nix"
      "nix-build"
      "nix-collect-garbage"
      "nix-env"
      "nix-instantiate"
      "nix-store"
    ]
  );

  # The programs of the module's scripts. Busybox starts faster than programs with shared libraries.
  coreutils = runText "coreutils" ''
    mkdir -p $out/bin
    ln -s $busybox/bin/* $out/bin
    for program in $(ls $wrapped/bin); do
      ln -sf $wrapped/bin/$program $out/bin/$program
    done
  '' {
    inherit busybox;
    wrapped = wrap "coreutils-wrapped" (package "coreutils") (
      map (name: "${name}=${name}") [
        "readlink"
        "stat"
        "sync"
      ]
    );
  };

  bash = runText "bash" "mkdir -p $out/bin; ln -s $package/bin/bash $out/bin/bash" {
    package = package "bash-static";
  };

  # --- kernel and initrd ---------------------------------------------------------------------

  kernelFile = if isX86 then "bzImage" else "Image";

  kernelDirectory =
    if umlKernel != "" then
      "${prepared}/uml"
    else if otherKernel != "" then
      otherKernel
    else
      "${prepared}/kernel";
  kernelVersion = builtins.readFile "${kernelDirectory}/version";

  kernelSource = builtins.path {
    name = "kernel";
    path = kernelDirectory;
  };

  kernel = run "linux-${kernelVersion}" ./build/kernel.sh {
    source =
      if umlKernel == "" then
        kernelSource
      else
        runText "kernel" "mkdir $out; cp -r $uml/lib $out; cp $uml/linux $out/image" {
          uml = kernelSource;
        };
    # Debian's kernels for clouds, such as the other kernel, have no device trees.
    deviceTrees = if isX86 then "" else source "kernel/dtbs";
    inherit kernelFile;
    outputs = [ "out" "modules" ] ++ (if isX86 then [ ] else [ "dtbs" ]);
  };

  bootedKernel =
    if kernelBytes == "" then
      kernel
    else
      runText "linux-${kernelVersion}" "mkdir $out; head -c $bytes $file > $out/$target" {
        bytes = kernelBytes;
        file = "${kernel}/${kernelFile}";
        target = kernelFile;
      };

  firmware = runText "firmware" "mkdir -p $out/lib/firmware" { };

  fileSystems = [
    {
      mountPoint = "/";
      device = rootDevice;
      fsType = rootType;
      options = rootOptions;
    }
    {
      mountPoint = "/tmp";
      device = "tmpfs";
      fsType = "tmpfs";
      options = "mode=1777,nosuid,nodev";
    }
  ];

  # Four lines for each file system that stage 1 mounts, as in NixOS's scripted stage 1.
  fsInfo = builtins.toFile "fsinfo" (
    builtins.concatStringsSep "" (
      map (fileSystem: ''
        ${fileSystem.mountPoint}
        ${fileSystem.device}
        ${fileSystem.fsType}
        ${fileSystem.options}
      '') (builtins.filter (fileSystem: fileSystem.mountPoint == "/") fileSystems)
    )
  );

  makeInitrd =
    name: modules:
    run name ./build/initrd.sh {
      inherit changeInitrd fsInfo initrdBytes modules;
      busybox = package "busybox-static";
      links = busybox;
      init = ./stage-1.sh;
      lease = ./lease.sh;
    };

  initrd = makeInitrd "initrd-linux-${kernelVersion}" kernel.modules;

  # --- etc and sw ----------------------------------------------------------------------------

  escape = builtins.replaceStrings [ " " "\t" ] [ "\\040" "\\011" ];

  etc = runText "etc" ''
    mkdir -p $out/etc/nix
    cd $out/etc
    ${builtins.concatStringsSep "\n" (
      builtins.attrValues (builtins.mapAttrs (name: file: "ln -s ${file} ${name}") etcFiles)
    )}
  '' { };

  etcFiles = {
    fstab = builtins.toFile "etc-fstab" ''
      # This is a generated file.  Do not edit!
      #
      # To make changes, edit the fileSystems and swapDevices NixOS options
      # in your /etc/nixos/configuration.nix file.
      #
      # <file system> <mount point>   <type>  <options>       <dump>  <pass>

      # Filesystems.
      ${builtins.concatStringsSep "\n" (
        map (
          fileSystem:
          "${escape fileSystem.device} ${escape fileSystem.mountPoint} ${fileSystem.fsType} ${fileSystem.options} 0 0"
        ) fileSystems
      )}


      # Swap devices.

    '';
    passwd = builtins.toFile "etc-passwd" ''
      root:x:0:0:System administrator:/root:/run/current-system/sw/bin/sh
      nixbld1:x:30001:30000:Nix build user 1:/var/empty:/run/current-system/sw/bin/false
      nobody:x:65534:65534:Unprivileged account:/var/empty:/run/current-system/sw/bin/false
    '';
    group = builtins.toFile "etc-group" ''
      root:x:0:
      nixbld:x:30000:nixbld1
      nogroup:x:65534:
    '';
    hostname = builtins.toFile "etc-hostname" "netimage-demo\n";
    hosts = builtins.toFile "etc-hosts" "127.0.0.1 localhost\n::1 localhost\n";
    os-release = builtins.toFile "etc-os-release" ''
      ID=nixos
      NAME="netimage demo system"
      PRETTY_NAME="netimage demo system ${label}"
      VERSION_ID="25.11"
      BUILD_ID="${label}"
    '';
    profile = builtins.toFile "etc-profile" ''
      export PATH=/run/current-system/sw/bin
      export HOME=/root
    '';
    inittab = script "etc-inittab" ./inittab { inherit start; };
    # The system has no systemd. start.sh runs the commands of these units.
    systemd = module.units;
    "nix/nix.conf" = runText "nix.conf" "printf %s \"$text\" > $out" {
      text = ''
        build-hook = ${script "build-hook" ./build-hook.sh { }}
        build-users-group = nixbld
        experimental-features = nix-command flakes
        sandbox = false
        substituters =
      '';
    };
  };

  # Runs when the system is up.
  start = script "demo-start" ./start.sh { };

  # The scripts of netimage's module.
  module = import ./module.nix {
    inherit
      bash
      coreutils
      nix
      runText
      ;
    systemctl = script "systemctl" ./systemctl.sh { };
  };

  sw = runText "system-path" ''
    mkdir -p $out/bin
    for package in $packages; do
      ln -s $package/bin/* $out/bin
    done
  '' { packages = [ busybox nix ]; };

  systemd =
    if uefiStub == "" then
      ""
    else
      runText "systemd" "mkdir -p $out/lib/systemd/boot/efi; cp $stub $out/lib/systemd/boot/efi/$file" {
        stub = builtins.path {
          name = "stub";
          path = uefiStub;
        };
        file = baseNameOf uefiStub;
      };

  # --- the system itself ---------------------------------------------------------------------

  secretAppender = runText "append-initrd-secrets" ''
    mkdir -p $out/bin
    printf '#!%s\n# This system has no secrets for its initrd.\n' $shell > $out/bin/$name
    chmod +x $out/bin/$name
  '' { shell = "${busybox}/bin/sh"; };

  makeSystem =
    {
      kernelParams,
      specialisations ? { },
    }:
    let
      out = builtins.placeholder "out";
      toplevel = run "nixos-system-netimage-demo-${label}" ./build/toplevel.sh {
        inherit etc firmware label sw;
        activate = script "activate" ./activate.sh { inherit etc; };
        bootJson = builtins.toJSON (makeBootspec out kernelParams specialisations);
        # Only the system itself refers to this path.
        extraDependencies = builtins.toFile "extra-dependency" "kept on purpose\n";
        init = script "stage-2" (if stage2 == "" then ./stage-2.sh else /. + stage2) {
          inherit (module) localCommands;
          path = sw;
        };
        initrd = "${initrd}/initrd";
        kernel = "${bootedKernel}/${kernelFile}";
        kernelModules = kernel.modules;
        dtbs = if isX86 then "" else kernel.dtbs;
        kernelParams = builtins.concatStringsSep " " kernelParams;
        secretAppender = "${secretAppender}/bin/append-initrd-secrets";
        specialisations = builtins.attrValues (
          builtins.mapAttrs (name: special: "${name}=${special.toplevel}") specialisations
        );
        inherit systemd;
        switcher = script "switch-to-configuration" ./switch-to-configuration.sh {
          inherit (module) installBootLoader;
        };
        bootedSystem = system;
      };
    in
    {
      inherit kernelParams specialisations toplevel;
    };

  # RFC 125, version 1.
  makeBootspec = toplevel: kernelParams: specialisations: {
    "org.nixos.bootspec.v1" = {
      inherit kernelParams label system;
      toplevel = "${toplevel}";
      init = "${toplevel}/init";
      initrd = "${initrd}/initrd";
      initrdSecrets = "${secretAppender}/bin/append-initrd-secrets";
      kernel = "${bootedKernel}/${kernelFile}";
    };
    "org.nixos.specialisation.v1" = builtins.mapAttrs (
      _: special: makeBootspec special.toplevel special.kernelParams special.specialisations
    ) specialisations;
  };

  moreParams = builtins.filter (word: builtins.isString word && word != "") (
    builtins.split " +" kernelParams
  );
  # If this computer is busy, the timer of an emulated machine may not tick in time. Then the kernel panics,
  # unless it is told no_timer_check.
  machineParams =
    if isX86 then
      [
        "console=ttyS0,115200"
        "no_timer_check"
      ]
    else
      [ "console=ttyAMA0,115200" ];

  demo = makeSystem {
    kernelParams =
      (if retryAfter == "" then [ ] else import ../../nix/start-again.nix retryAfter)
      ++ machineParams
      ++ [ "loglevel=4" ]
      ++ moreParams;
    specialisations.debug = makeSystem { kernelParams = machineParams ++ [ "loglevel=7" ]; };
  };
in
{
  inherit (demo) toplevel;
}
// (
  if isX86 then
    {
      # The same stage 1 with the modules of User Mode Linux. Its kernel runs on the building
      # machine, so it is not part of the system.
      umlInitrd = makeInitrd "initrd-uml-${readPrepared "uml/version"}" (
        runText "uml-modules" "mkdir $out; cp -r $source/lib $out/lib" { source = source "uml"; }
      );
    }
  else
    { }
)

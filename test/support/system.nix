# A minimal NixOS system for tests that build an image with real Nix.
{
  # The store path of a busybox with its applets (see addBuilderShell).
  shell,
  # The system refers to this store path, and so to its closure.
  content,
  label ? "25.11.20261122.test",
}:

let
  busybox = builtins.storePath shell;

  make =
    name: script:
    derivation {
      inherit name;
      system = builtins.currentSystem;
      builder = "${busybox}/bin/sh";
      args = [
        "-euc"
        script
      ];
      PATH = "${busybox}/bin";
    };

  kernel = make "linux-test" "mkdir $out; echo kernel > $out/bzImage";
  initrd = make "initrd-test" "mkdir $out; echo initrd > $out/initrd";
  fstab = builtins.toFile "fstab" ''
    192.168.0.108:/srv / nfs vers=3,proto=tcp,nolock 0 0
  '';
in
make "nixos-system-test-${label}" ''
  mkdir -p $out/etc $out/bin
  printf '#!${busybox}/bin/sh\necho hello from %s\n' $out > $out/init
  printf '#!${busybox}/bin/sh\necho ran > "$1"\n' > $out/bin/tool
  chmod +x $out/init $out/bin/tool
  ln -s ${fstab} $out/etc/fstab
  ln -s ${kernel}/bzImage $out/kernel
  ln -s ${initrd}/initrd $out/initrd
  ln -s ${builtins.storePath content} $out/content
  printf %s ${label} > $out/nixos-version
  printf %s x86_64-linux > $out/system
  printf %s 'console=ttyS0 loglevel=4' > $out/kernel-params
''

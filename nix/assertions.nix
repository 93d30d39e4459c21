# Tells at evaluation what `netimage check` would find later, under the same names.
{
  cfg,
  config,
  lib,
  nfsRoot,
  stage1IsSystemd,
}:

let
  root = config.fileSystems."/";
  isNfs = lib.elem root.fsType [
    "nfs"
    "nfs4"
  ];
  rootOptions = root.options;
  matching = pattern: lib.filter (option: builtins.match pattern option != null) rootOptions;
  has = pattern: matching pattern != [ ];
  # The last option counts. If busybox mounts, local locks are enough.
  isLocal =
    lib.last ([ "lock" ] ++ matching "(no)?lock") == "nolock"
    || (!stage1IsSystemd && lib.elem "local_lock=all" rootOptions);
  # NixOS itself adds root=fstab.
  kernelRoot = lib.filter (
    word: word == "root=/dev/nfs" || lib.hasPrefix "nfsroot=" word
  ) config.boot.kernelParams;
  hasNetwork =
    config.boot.initrd.network.enable
    || (stage1IsSystemd && config.boot.initrd.systemd.network.enable);
  inherit (config.environment) etc;
  mounted = import ./nfs-root.nix { inherit lib; } (toString root.device);
  isAddress = host: builtins.match "[0-9.]+|\\[.*]" host != null;
  # A name and an address count as the same server, because names are not resolved.
  isSameServer =
    one: other: one == null || other == null || one == other || isAddress one != isAddress other;
  isSamePath = one: other: lib.removeSuffix "/" (toString one) == lib.removeSuffix "/" (toString other);
  isStored = path: builtins.isPath path || lib.hasPrefix builtins.storeDir path;
  # NixOS copies texts and paths to the store. A string may name a file of the machine: then /etc only
  # has a link to this file.
  isBakedIn = file: (file.text or null) != null || isStored (file.source or "");
  hasHostKeys =
    lib.any (name: builtins.match "ssh/ssh_host_.*_key" name != null && isBakedIn etc.${name}) (
      builtins.attrNames etc
    )
    || lib.any (key: isStored (key.path or "")) config.services.openssh.hostKeys;
  machineId = etc.machine-id or { };

  rule = name: assertion: message: {
    assertion = lib.elem name cfg.silence || assertion;
    message = "netImage, ${name}: ${message}";
  };
in
[
  {
    assertion = nfsRoot.isValid && nfsRoot.server != null;
    message = "netImage.nfsRoot is \"${cfg.nfsRoot}\", but must have the form server:/path,options, as in 10.0.0.5:/srv/pi,v3";
  }
  (rule "root-not-nfs" isNfs ''
    fileSystems."/" has the type ${root.fsType}, so stage 1 would wait for its device.
    Remove your fileSystems."/" (netImage.nfsRoot sets it), or set fsType = "nfs".'')
  (rule "nfs-options-in-device" (builtins.match "[^,]*,(v[234].*|.*=.*|nolock.*|rw.*|ro.*)" (toString root.device) == null) ''
    the device of fileSystems."/" is ${toString root.device}: the text after the comma would become part of the path.
    Name the options in fileSystems."/".options, and write vers=3 instead of v3.'')
  (rule "root-mismatch" (
    !isNfs
    || nfsRoot.server == null
    || (isSamePath mounted.path nfsRoot.path && isSameServer mounted.server nfsRoot.server)
  ) ''
    fileSystems."/" is ${toString root.device}, but netImage.nfsRoot is ${cfg.nfsRoot}.
    Set only netImage.nfsRoot: the module derives the file system from it.'')
  (rule "nfs-lock" (!isNfs || !has "(nfs)?vers=3|v3" || isLocal) ''
    fileSystems."/" is mounted with version 3 of NFS and without nolock, but locks do not work before the root is mounted.
    Add "nolock" to fileSystems."/".options.'')
  (rule "nfsroot-and-fstab" (!stage1IsSystemd || kernelRoot == [ ]) ''
    boot.kernelParams has ${toString kernelRoot}, but systemd's stage 1 mounts the root of fileSystems."/".
    Remove ${toString kernelRoot} from boot.kernelParams.'')
  (rule "no-network-setup" hasNetwork ''
    boot.initrd.network.enable is false: nothing in stage 1 gets an address.
    Set boot.initrd.network.enable = true.'')
  (rule "network-torn-down" (!config.boot.initrd.network.flushBeforeStage2) ''
    boot.initrd.network.flushBeforeStage2 takes down the network that carries the root.
    Set boot.initrd.network.flushBeforeStage2 = false.'')
  (rule "machine-id-baked-in" (
    !isBakedIn machineId || lib.elem (machineId.text or null) [ "" "uninitialized" "uninitialized\n" ]
  ) ''
    environment.etc has a machine-id, so all machines with this image would have the same ID.
    Remove machine-id: each machine makes its own at its first boot.'')
  (rule "host-keys-baked-in" (!hasHostKeys) ''
    environment.etc or services.openssh.hostKeys has SSH host keys in the store: all machines would have the same keys, and everybody who can mount the root could read them.
    Remove the keys: sshd makes its keys at the first boot.'')
]

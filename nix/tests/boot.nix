# A client without a disk boots the module's image from a server. This test needs nixpkgs and a
# machine with KVM. It is part of the flake's checks.
{
  nixpkgs,
  system,
  module,
}:

let
  pkgs = nixpkgs.legacyPackages.${system};
  serverAddress = "192.168.1.2";
  nfsPath = "/srv/client";

  client = import ./client.nix {
    inherit nixpkgs system module;
    nfsRoot = "${serverAddress}:${nfsPath},v3";
  };
  inherit (client.config.system.build) netImage toplevel;
  inherit (client.config.netImage) rootDirectoryName;
in
pkgs.testers.runNixOSTest {
  name = "netimage-boot";

  nodes.server = {
    virtualisation.vlans = [ 1 ];
    networking.firewall.enable = false;
    networking.useDHCP = false;
    networking.interfaces.eth1.ipv4.addresses = nixpkgs.lib.mkForce [
      {
        address = serverAddress;
        prefixLength = 24;
      }
    ];
    services.nfs.server = {
      enable = true;
      exports = "${nfsPath} *(rw,sync,no_root_squash,no_subtree_check,insecure)";
    };
    systemd.tmpfiles.rules = [ "d ${nfsPath} 0755 root root -" ];
    services.dnsmasq = {
      enable = true;
      resolveLocalQueries = false;
      settings = {
        port = 0;
        interface = "eth1";
        dhcp-range = "192.168.1.100,192.168.1.199,1h";
        enable-tftp = true;
        tftp-root = "${netImage}/net-image/boot";
        dhcp-userclass = "set:ipxe,iPXE";
        dhcp-boot = "tag:ipxe,boot.ipxe";
      };
    };
    environment.systemPackages = [ pkgs.rsync ];
    virtualisation.additionalPaths = [ netImage ];
    virtualisation.diskSize = 4096;
  };

  testScript = ''
    server.start()
    server.wait_for_unit("nfs-server.service")
    server.wait_for_unit("dnsmasq.service")
    server.succeed("rsync -a --chown=0:0 ${netImage}/net-image/${rootDirectoryName}/ ${nfsPath}/")

    client = create_machine(
        "${pkgs.qemu_test}/bin/qemu-kvm -m 1024"
        + " -device virtio-net-pci,netdev=vlan1,mac=52:54:00:12:01:99"
        + ' -netdev vde,id=vlan1,sock="$QEMU_VDE_SOCKET_1"'
        + " -device virtio-rng-pci $QEMU_OPTS",
        name="client",
    )
    client.start()
    client.wait_for_unit("multi-user.target")
    client.succeed("findmnt --noheadings --output FSTYPE / | grep nfs")
    client.succeed("nix-store --query --requisites ${toplevel} > /dev/null")
    client.succeed("readlink -f /nix/var/nix/profiles/system | grep ${toplevel}")
    client.shutdown()
  '';
}

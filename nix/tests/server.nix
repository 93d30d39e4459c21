# A machine without a disk boots from the service of netimage. This test needs nixpkgs and a machine
# with KVM. It is part of the flake's checks.
{
  nixpkgs,
  system,
  # The modules of netimage's flake.
  default,
  server,
}:

let
  pkgs = nixpkgs.legacyPackages.${system};
  address = "192.168.1.2";

  client = import ./client.nix {
    inherit nixpkgs system;
    module = default;
    nfsRoot = "${address}:/srv/client,v3";
  };
  mac = "52:54:00:12:01:99";
in
pkgs.testers.runNixOSTest {
  name = "netimage-server";

  nodes.server = {
    imports = [ server ];
    virtualisation.vlans = [ 1 ];
    virtualisation.diskSize = 4096;
    networking.useDHCP = false;
    networking.interfaces.eth1.ipv4.addresses = nixpkgs.lib.mkForce [
      {
        inherit address;
        prefixLength = 24;
      }
    ];
    # The firewall stays on: the service opens what it needs.
    services.netimage = {
      enable = true;
      interface = "eth1";
      allow = [ mac ];
      dhcp = {
        mode = "full";
        range = "192.168.1.100-192.168.1.199";
      };
      images = [ client ];
      groups.lab = {
        system = client;
        machines = [ "client" ];
        # How long the machine must stay up before the image is good.
        health.settle = "1s";
      };
      machines.client = { inherit mac; };
    };
  };

  testScript = ''
    site = "--file /etc/netimage/site.json"

    server.start()
    server.wait_for_unit("netimage.service")
    server.wait_until_succeeds("journalctl --unit netimage --output cat | grep '^on ${address} '")
    # 2: there is something to do, because the group has no roll-out yet.
    status, _ = server.execute(f"netimage site plan {site}")
    assert status == 2, status
    server.succeed(f"netimage site apply --yes {site}")
    # The machine has its name before its first boot.
    server.succeed("netimage site status client | grep 'has not booted'")

    client = create_machine(
        "${pkgs.qemu_test}/bin/qemu-kvm -m 1024"
        + " -device virtio-net-pci,netdev=vlan1,mac=${mac}"
        + ' -netdev vde,id=vlan1,sock="$QEMU_VDE_SOCKET_1"'
        + " -device virtio-rng-pci $QEMU_OPTS",
        name="client",
    )
    client.start()
    client.wait_for_unit("multi-user.target")
    client.succeed("findmnt --noheadings --output FSTYPE / | grep nfs")
    server.wait_until_succeeds("netimage site status client | grep '^  runs .*, good;'")
    server.wait_until_succeeds(f"netimage site plan {site}")
    client.shutdown()
  '';
}

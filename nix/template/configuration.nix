{
  netImage = {
    # The machine's root: your NFS server, and a directory of your choice.
    nfsRoot = "192.168.0.108:/srv/pi,v3";
    boards = [ "raspberry-pi-4" ];
  };

  networking.hostName = "pi";
  services.openssh.enable = true;
  users.users.root.openssh.authorizedKeys.keys = [
    # "ssh-ed25519 AAAA… you@machine"
  ];

  system.stateVersion = "26.05";
}

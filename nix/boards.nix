# The modules that a machine's network takes in stage 1.
{
  raspberry-pi-3 = {
    isRaspberryPi = true;
    modules = [
      "smsc95xx"
      "lan78xx"
    ];
  };
  raspberry-pi-4 = {
    isRaspberryPi = true;
    modules = [
      "genet"
      "bcm_phy_lib"
      "broadcom"
    ];
  };
  raspberry-pi-5 = {
    isRaspberryPi = true;
    modules = [ "macb" ];
  };
  pc = {
    isRaspberryPi = false;
    modules = [
      "e1000e"
      "igb"
      "igc"
      "r8169"
    ];
  };
  virtual = {
    isRaspberryPi = false;
    modules = [
      "virtio_pci"
      "virtio_mmio"
      "virtio_net"
    ];
  };
}

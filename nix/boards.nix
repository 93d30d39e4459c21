# The modules that a machine's network needs in stage 1. They include all modules that the rule
# no-network-driver requires for a Raspberry Pi (src/check/boards.ts). A test compares the two.
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
    # The interface is in the RP1, which is on PCIe.
    modules = [
      "macb"
      "pcie-brcmstb"
      "clk-rp1"
    ];
    ofKernelOrg = [
      "rp1_pci"
      "pinctrl-rp1"
    ];
    # Raspberry Pi's driver of the RP1 has another name, and its driver of the pins is never a
    # module.
    ofRaspberryPiKernel = [ "rp1" ];
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

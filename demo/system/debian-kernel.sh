# Scripts source this file to take a kernel and its modules from a Debian package.

# The modules that any machine may need for a network root. A kernel may lack some of them.
modules='
  af_packet nfs nfsv3 nfsv4 overlay squashfs ext4 loop
  virtio_pci virtio_mmio virtio_net virtio_blk virtio_rng virtio_console
  e1000 e1000e igb r8169 8139cp ena gve
  genet macb broadcom bcm_phy_lib smsc95xx lan78xx microchip
  xhci_pci xhci_plat_hcd dwc2 phy_generic cdc_ether rndis_host usbnet
'

copyModules() { # copyModules ROOT VERSION OUT: copies the modules above and their dependencies
  (
    cd "$1/lib/modules/$2"
    depmod --basedir "$1" "$2"
    mkdir -p "$3/lib/modules/$2"
    # modules.dep has one line for each module: its file, a colon, and the files of its
    # dependencies.
    awk -v wanted="$modules" '
      BEGIN { count = split(wanted, names); for (i = 1; i <= count; i++) isWanted[names[i]] = 1 }
      {
        file = $1; sub(/:$/, "", file)
        name = file; sub(/.*\//, "", name); sub(/\.ko.*/, "", name); gsub(/-/, "_", name)
        if (!(name in isWanted)) next
        print file
        for (i = 2; i <= NF; i++) print $i
      }' modules.dep | sort -u | cpio --quiet --pass-through --make-directories "$3/lib/modules/$2"
    cp modules.builtin modules.builtin.modinfo modules.order "$3/lib/modules/$2"
    find "$3" -name '*.ko.xz' -exec xz --decompress {} +
    depmod --basedir "$3" "$2"
    # Busybox reads only the text files.
    rm -f "$3/lib/modules/$2"/*.bin
  )
}

kernelOf() { # kernelOf PACKAGE: prints the package of the kernel that this package depends on
  kernel=$(apt-cache depends "$1" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
  [ -n "$kernel" ] || fail "The Debian package $1 names no kernel: is it in the archive?"
  echo "$kernel"
}

copyKernel() { # copyKernel ROOT OUT: copies the version, the image and the modules
  version=$(ls "$1/lib/modules")
  printf %s "$version" >"$2/version"
  cp "$1/boot/vmlinuz-$version" "$2/image"
  copyModules "$1" "$version" "$2"
}

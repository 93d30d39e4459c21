#!/bin/sh
# The init of the initrd: loads drivers for the network and NFS, gets an address, mounts the root,
# and runs the init= of the kernel line. It does the same as NixOS's scripted stage 1.
#
# Parameters of the kernel line:
#   init=FILE                           the second stage, as a path on the root
#   root=/dev/nfs nfsroot=[SERVER:]PATH[,OPTIONS]
#                                       a root other than the one that the system was built for;
#                                       nfsroot, or its server, comes from DHCP if it is missing
#   BOOTIF=01-MAC                       the interface that the loader has booted from
#   boot.panic_on_fail                  end if there is no root, instead of trying forever: the kernel
#                                       panics then, and panic=SECONDS lets it start again
#   netimage.onfail=poweroff[:SECONDS]  power off if there is no root; after SECONDS, default 10
export PATH=/bin

say() {
  echo "netimage-demo: $*"
}

word() { # word NAME: prints the value of the last NAME=... of the kernel line
  for word in $(cat /proc/cmdline); do
    case $word in "$1"=*) echo "${word#*=}" ;; esac
  done | tail -n 1
}

# Loads the drivers of all devices, as udev does. Called again, because a driver may add devices.
loadDrivers() {
  find /sys/devices -name modalias -exec cat {} + | sort -u | xargs -r modprobe -a -q 2>/dev/null
}

listInterfaces() {
  bootMac=$(word BOOTIF | sed 's/^01-//; s/-/:/g' | tr A-F a-f)
  for interface in $(ls /sys/class/net); do
    # 1 is Ethernet.
    [ "$(cat /sys/class/net/$interface/type)" = 1 ] || continue
    [ -z "$bootMac" ] || [ "$(cat /sys/class/net/$interface/address)" = "$bootMac" ] || continue
    echo $interface
  done
}

uptimeSeconds() {
  read -r uptime idle </proc/uptime
  echo ${uptime%.*}
}

waitForInterfaces() {
  # A look takes seconds in an emulated machine, so the limit is a time.
  end=$(($(uptimeSeconds) + 10))
  until loadDrivers; [ -n "$(listInterfaces)" ]; do
    [ $(uptimeSeconds) -lt $end ] || return 1
    usleep 100000
  done
}

getAddress() {
  for interface in $(listInterfaces); do
    ip link set $interface up
    if udhcpc -i $interface -f -q -n -t 5 -T 2 -O rootpath -s /etc/lease; then return; fi
  done
  return 1
}

# Sets device, type and options: from the file of the build, then from the kernel line.
findRoot() {
  device= type= options=
  while read -r mountPoint && read -r oneDevice && read -r oneType && read -r oneOptions; do
    [ "$mountPoint" = / ] || continue
    device=$oneDevice type=$oneType options=$oneOptions
  done </etc/fsinfo

  . /run/lease
  nfsRoot=$(word nfsroot)
  [ -n "$nfsRoot" ] || [ "$(word root)" != /dev/nfs ] || nfsRoot=$lease_rootpath
  if [ -n "$nfsRoot" ]; then
    device=${nfsRoot%%,*}
    case $nfsRoot in *,*) options=$options,${nfsRoot#*,} ;; esac
    case $device in *:*) ;; *) device=${lease_siaddr:-$lease_serverid}:$device ;; esac
  fi

  # Remove the options that are for programs, not for the kernel.
  options=$(echo "$options" | tr , '\n' | grep -v -E '^(_netdev|auto|defaults|nofail|x-.*)$' | tr '\n' ,)
  options=${options}addr=${device%%:*}
}

mountRoot() {
  case $type,$options in
    nfs4,* | *,vers=4* | *,v4* | *,nfsvers=4*)
      # For a server of version 4.1 and later, clients with the same name are one client. No machine
      # has a name yet, so without this each machine would take away the locks of the others.
      modprobe nfs nfs4_unique_id=$(cat /sys/class/net/$lease_interface/address)
      modprobe nfsv4
      ;;
    *) modprobe -a nfs nfsv3 ;;
  esac
  timeout -s KILL 30 mount -t "$type" -o "$options" "$device" /mnt-root
}

# The root tree of a system may lack these directories. On a read-only root, busybox's mkdir -p
# fails even if the directory exists.
makeMountPoints() {
  for directory in proc sys dev run; do
    [ -d /mnt-root/$directory ] || mkdir -m 0755 /mnt-root/$directory || return 1
  done
}

# Sets problem if the boot cannot continue.
reachRoot() {
  problem=
  if ! waitForInterfaces; then
    problem='this machine has no network interface that the kernel has a driver for'
  elif ! getAddress; then
    problem='no DHCP server answers'
  elif ! findRoot || ! mountRoot; then
    problem="cannot mount $device ($type, $options)"
  elif ! [ -x "/mnt-root$init" ]; then
    problem="$device has no $init"
    umount /mnt-root
  elif ! makeMountPoints; then
    problem="$device has not all of /proc, /sys, /dev and /run, and they cannot be made"
    umount /mnt-root
  fi
  [ -z "$problem" ]
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
say 'stage 1'
ip link set lo up

init=$(word init)
init=${init:-/init}
onFail=$(word netimage.onfail)
case $onFail in *:*) seconds=${onFail#*:} ;; *) seconds=10 ;; esac
case " $(cat /proc/cmdline) " in *' boot.panic_on_fail '*) panicOnFail=yes ;; *) panicOnFail= ;; esac

until reachRoot; do
  say "no root: $problem"
  # As in NixOS.
  [ -z "$panicOnFail" ] || exit 1
  case $onFail in
    poweroff*)
      say "power off in $seconds seconds"
      sleep $seconds
      poweroff -f
      ;;
    *)
      say 'trying again in 5 seconds; boot.panic_on_fail on the kernel line would end this'
      sleep 5
      ;;
  esac
done
say "root $device"

for directory in proc sys dev run; do
  mount --move /$directory /mnt-root/$directory
done
exec switch_root /mnt-root "$init"

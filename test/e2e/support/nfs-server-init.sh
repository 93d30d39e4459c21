#!/bin/busybox sh
# The init of a machine that serves NFS by its kernel; see fetch-nfs-server.sh.
#
# kernel-nfs-server.ts adds
#   /etc/address                        the address, as in 10.66.0.2/24
#   /etc/root                           the mount point for the disk with the root tree
#   /etc/exports.d/netimage.exports     the exports, as on any NFS server
export PATH=/bin
busybox mkdir -p /proc /sys /dev /tmp /run/rpcbind /run/sendsigs.omit.d \
  /var/lib/nfs/nfsdcld /var/lib/nfs/rpc_pipefs
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ln -s /run /var/run
# rpcbind runs only as this user.
printf 'root:x:0:0::/:/bin/sh\n_rpc:x:100:65534::/run/rpcbind:/bin/sh\n' >/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >/etc/group
echo '127.0.0.1 localhost' >/etc/hosts
touch /etc/exports /var/lib/nfs/etab /var/lib/nfs/rmtab

for module in /modules/*; do insmod "$module"; done
ip link set lo up
ip address add "$(cat /etc/address)" dev eth0
ip link set eth0 up
root=$(cat /etc/root)
mkdir -p "$root"
mount -t ext4 /dev/vda "$root"

mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs sunrpc /var/lib/nfs/rpc_pipefs
# After a start, the server waits for clients that had locks before. For version 4, nfsdcld knows
# that there are none. For version 3, the wait is made short here.
echo 1 >/proc/sys/fs/nfs/nlm_grace_period
nfsdcld
rpcbind -w
exportfs -ra && rpc.nfsd && rpc.mountd && echo 'nfs-server: ready'
exec sleep 1000000

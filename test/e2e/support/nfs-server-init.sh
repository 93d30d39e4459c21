#!/bin/busybox sh
# The only program of a machine that serves NFS by its kernel; see fetch-nfs-server.sh.
#
# kernel-nfs-server.ts adds
#   /etc/address                        its own, as in 10.66.0.2/24
#   /etc/root                           where to mount the disk with the root tree
#   /etc/exports.d/netimage.exports     as for any NFS server
export PATH=/bin
busybox mkdir -p /proc /sys /dev /tmp /run/rpcbind /run/sendsigs.omit.d \
  /var/lib/nfs/nfsdcld /var/lib/nfs/rpc_pipefs
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ln -s /run /var/run
# rpcbind is nobody but this one.
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
# After a start, locks are kept for clients that had them before: by version 4's, of which nfsdcld
# knows that there were none, and by version 3's.
echo 1 >/proc/sys/fs/nfs/nlm_grace_period
nfsdcld
rpcbind -w
exportfs -ra && rpc.nfsd && rpc.mountd && echo 'nfs-server: ready'
exec sleep 1000000

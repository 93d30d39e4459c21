#!@shell@
# The system's init, the first process on the root: it runs the activation and the module's script
# that registers the store, and then busybox's init (NixOS runs systemd there).
systemConfig=@systemConfig@
export HOME=/root PATH=@path@/bin

say() {
  echo "netimage-demo: $*"
}

say 'stage 2'
# Stage 1 has moved its mounts here. If there was no stage 1, they are missing.
mountpoint() { grep -q " $1 " /proc/mounts 2>/dev/null; }
for directory in /proc /sys /dev /run /etc /root /var; do
  [ -d $directory ] || mkdir -m 0755 $directory
done
mountpoint /proc || mount -t proc proc /proc
mountpoint /sys || mount -t sysfs sysfs /sys
mountpoint /dev || mount -t devtmpfs devtmpfs /dev
mountpoint /run || mount -t tmpfs -o mode=755 tmpfs /run
# Nix needs a terminal for each build.
mkdir -p /dev/pts
mount -t devpts -o mode=620 devpts /dev/pts

# "test -w" is always true for root, so write instead.
if ! touch / 2>/dev/null; then
  say 'the root is read-only'
  for directory in /etc /root /var; do
    mount -t tmpfs -o mode=755 tmpfs $directory
  done
fi

# As in NixOS: the group of builds owns the store, and only Nix writes to it.
chown -f 0:30000 /nix/store
chmod -f 1775 /nix/store
mount --bind /nix/store /nix/store
mount -o remount,ro,bind /nix/store

$systemConfig/activate
ln -sfn $systemConfig /run/booted-system

# The module's script makes Nix's database agree with the store. It writes this mark last, after it
# has registered an image that is new to the machine.
mark() {
  md5sum /nix/var/nix/netimage-registered 2>/dev/null
}
before=$(mark)
@shell@ @localCommands@
[ "$(mark)" = "$before" ] || say 'registered'

exec init

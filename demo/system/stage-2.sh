#!@shell@
# The system's init, the first process on the root: it runs the activation, registers the store at
# the first boot, and then runs busybox's init (NixOS runs systemd there).
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

# "test -w" is always true for root, so write instead.
if touch / 2>/dev/null; then
  isWritable=1
else
  isWritable=
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

# The file is removed last: if the power fails earlier, the next boot registers again, which is
# safe.
if [ -f /nix-path-registration ] && [ -n "$isWritable" ]; then
  if nix-store --load-db </nix-path-registration &&
    touch /etc/NIXOS &&
    nix-env --profile /nix/var/nix/profiles/system --set $systemConfig &&
    sync; then
    rm /nix-path-registration
    say 'registered'
  else
    say 'registration failed'
  fi
fi

exec init

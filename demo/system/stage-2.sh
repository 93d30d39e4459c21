#!@shell@
# The system's own init, first process on the root: activation, the registration at the first
# boot, then busybox's init in the place that systemd has in NixOS.
systemConfig=@systemConfig@
export HOME=/root PATH=@path@/bin

say() {
  echo "netimage-demo: $*"
}

say 'stage 2'
# Stage 1 has moved its own mounts here; a root may also be entered without one.
mountpoint() { grep -q " $1 " /proc/mounts 2>/dev/null; }
for directory in /proc /sys /dev /run /etc /root /var; do
  [ -d $directory ] || mkdir -m 0755 $directory
done
mountpoint /proc || mount -t proc proc /proc
mountpoint /sys || mount -t sysfs sysfs /sys
mountpoint /dev || mount -t devtmpfs devtmpfs /dev
mountpoint /run || mount -t tmpfs -o mode=755 tmpfs /run

# For root, "test -w" says yes to everything.
if touch / 2>/dev/null; then
  isWritable=1
else
  isWritable=
  say 'the root is read-only'
  for directory in /etc /root /var; do
    mount -t tmpfs -o mode=755 tmpfs $directory
  done
fi

# As NixOS: root's group for builds owns the store, and nobody writes to it but Nix.
chown -f 0:30000 /nix/store
chmod -f 1775 /nix/store
mount --bind /nix/store /nix/store
mount -o remount,ro,bind /nix/store

$systemConfig/activate
ln -sfn $systemConfig /run/booted-system

# The registration goes last of all: when the power fails before that, the next boot does all of
# it again, which changes nothing that was done.
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

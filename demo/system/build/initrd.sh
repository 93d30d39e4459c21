# Builds an initrd: busybox, kernel modules, and the settings of the root file system for stage 1.
# The same inputs give the same bytes.
# The variables are attributes of the derivation in system.nix.
mkdir root
chmod 755 root
cd root
mkdir -p bin dev etc lib mnt-root proc run sys
cp $busybox/bin/busybox bin/busybox
for applet in $(ls $links/bin); do
  [ $applet = busybox ] || ln -s busybox bin/$applet
done
cp -r $modules/lib/modules lib/modules
cp $fsInfo etc/fsinfo
cp $init init
cp $lease etc/lease
chmod 755 init etc/lease
eval "$changeInitrd"
find . -exec touch -h -d @1 {} +

mkdir $out
find . | sort | cpio -o -H newc -R 0:0 --renumber-inodes --ignore-devno | gzip > $out/initrd
[ -z "$initrdBytes" ] || truncate -s "$initrdBytes" $out/initrd

# Builds the toplevel of a system, file by file as NixOS does.
# The variables are attributes of the derivation in system.nix.
mkdir -p $out/bin $out/specialisation

sed "s|@systemConfig@|$out|g" $init > $out/init
sed "s|@systemConfig@|$out|g" $activate > $out/activate
sed "s|@systemConfig@|$out|g" $switcher > $out/bin/switch-to-configuration
chmod +x $out/init $out/activate $out/bin/switch-to-configuration

ln -s $etc/etc $out/etc
ln -s $sw $out/sw
ln -s $kernel $out/kernel
ln -s $kernelModules $out/kernel-modules
[ -z "$dtbs" ] || ln -s $dtbs $out/dtbs
ln -s $initrd $out/initrd
[ -z "$systemd" ] || ln -s $systemd $out/systemd
ln -s $secretAppender $out/append-initrd-secrets
ln -s $firmware/lib/firmware $out/firmware

# None of these ends in a newline.
printf %s 'demo 1' > $out/init-interface-version
printf %s "$label" > $out/nixos-version
printf %s "$bootedSystem" > $out/system
printf %s "$kernelParams" > $out/kernel-params
printf %s "$extraDependencies" > $out/extra-dependencies
printf %s "$bootJson" > $out/boot.json

for specialisation in $specialisations; do
  ln -s ${specialisation#*=} $out/specialisation/${specialisation%%=*}
done

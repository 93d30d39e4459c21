# Builds the outputs of the kernel: the image, the modules and, for some machines, device trees.
# The variables are attributes of the derivation in system.nix.
mkdir -p $out $modules/lib
cp $source/image $out/$kernelFile
cp -r $source/lib/modules $modules/lib/modules
[ -z "$deviceTrees" ] || cp -r $deviceTrees $dtbs

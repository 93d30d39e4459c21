# Checks the installed program: builds and verifies the image of a tiny system.
system=/nix/store/00000000000000000000000000000000-nixos-system-check
mkdir -p root$system
echo init > root$system/init
echo kernel > root$system/kernel
printf 0 > root$system/nixos-version
printf x86_64-linux > root$system/system
# The hash of its NAR (by `nix-store --dump`). 880 below is the size of the NAR.
hash=sha256:60726866c43dc1ca5007741daba60e730a999ff318b987051098a7d39bbb8593
printf '%s\n' $system $hash 880 "" 0 > root/nix-path-registration

netimage build $system --from "local?root=$PWD/root" --no-check-sigs --boot none --pool pool --output image
netimage verify image

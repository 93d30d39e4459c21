# Checks the installed program: builds and verifies the image of a tiny system, from a binary cache.
system=/nix/store/00000000000000000000000000000000-nixos-system-check
mkdir -p cache
echo 'StoreDir: /nix/store' > cache/nix-cache-info
cat > cache/00000000000000000000000000000000.narinfo << end
StorePath: $system
URL: system.nar.xz
Compression: xz
NarHash: sha256:60726866c43dc1ca5007741daba60e730a999ff318b987051098a7d39bbb8593
NarSize: 880
References:
end
# By `nix-store --dump` and xz, of four files: init ("init"), kernel ("kernel"), nixos-version ("0", no
# newline) and system ("x86_64-linux", no newline).
# As numbers, because not every place has base64.
printf '\375\67\172\130\132\0\0\1\151\42\336\66\2\0\41\1\34\0\0\0\20\317\130\314\340\3\157\0\242\135\0\6'\
'\200\66\37\357\246\316\277\166\272\32\172\117\53\352\244\123\44\355\241\43\4\161\377\133\277\227'\
'\151\272\363\51\276\45\172\161\53\351\264\332\15\176\232\217\235\136\44\155\342\24\6\331\15\337'\
'\6\3\145\330\356\344\25\151\31\75\30\161\345\157\307\167\16\175\310\73\167\231\64\71\125\373\135'\
'\327\34\135\364\316\154\44\310\141\374\6\273\352\17\244\207\17\166\352\25\374\76\377\16\350\4'\
'\270\316\274\266\121\172\245\315\373\57\331\352\226\215\22\127\11\212\120\72\327\323\241\220\340'\
'\225\364\30\261\75\265\176\107\231\275\173\205\175\76\202\3\54\175\272\360\232\377\106\231\10'\
'\231\171\63\244\70\225\0\0\0\242\110\367\301\0\1\272\1\360\6\0\0\153\247\217\307\76\60\15\213\2'\
'\0\0\0\0\1\131\132' > cache/system.nar.xz

netimage build $system --from "file://$PWD/cache" --no-check-sigs --boot none --pool pool --output image
netimage verify image

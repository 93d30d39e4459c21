// A store path of the public NixOS cache, with the signature from its narinfo.

import { parseNarInfo } from '../../src/nix/narinfo.ts'
import { storePath } from './path-infos.ts'

export const publishedNarInfo = `StorePath: /nix/store/w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello-2.10
URL: nar/15zk4zszw9lgkdkkwy7w11m5vag11n5dhv2i6hj308qpxczvdddx.nar.xz
Compression: xz
FileHash: sha256:15zk4zszw9lgkdkkwy7w11m5vag11n5dhv2i6hj308qpxczvdddx
FileSize: 41232
NarHash: sha256:1mi14cqk363wv368ffiiy01knardmnlyphi6h9xv6dkjz44hk30i
NarSize: 205968
References: 9df65igwjmf2wbw0gbrrgair6piqjgmi-glibc-2.31 w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello-2.10
Sig: cache.nixos.org-1:uP5KU8MCmyRnKGlN5oEv6xWJBI5EO/Pf5aFztZuLSz8BpCcZ1fdBnJkVXhBAlxkdm/CemsgQskhwvyd2yghTAg==
`

export const publishedPath = storePath('/nix/store/w9yy7v61ipb5rx6i35zq1mvc2iqfmps1-hello-2.10')

export const publishedInfo = parseNarInfo(publishedNarInfo, publishedPath, 'hello')

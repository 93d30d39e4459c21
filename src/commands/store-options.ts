/** The flags that name the stores, and the keys that netimage trusts. */
import { Option } from '@commander-js/extra-typings'

import type { StoreChoice } from '../nix/stores/choose.ts'
import { withoutUndefined } from '../without-undefined.ts'

export function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value]
}

export const fromOption = new Option(
  '--from <store>',
  'a store to take paths from: https://…, file:///…, s3://…, local, local?root=DIR, or a directory; repeatable, tried in this order (default: this machine’s store, then https://cache.nixos.org)',
).argParser(collect)

export const keysOption = new Option(
  '--trusted-public-keys <keys>',
  'public keys to trust, separated by spaces; repeatable (default: the key of cache.nixos.org)',
).argParser(collect)

export const noCheckSigsOption = new Option(
  '--no-check-sigs',
  'accept paths without a signature by a trusted key',
)

export const netrcOption = new Option(
  '--netrc-file <file>',
  'credentials for private caches (default: /etc/nix/netrc, if it exists)',
)

export const poolOption = new Option(
  '--pool <dir>',
  'the directory that keeps unpacked store paths (default: $XDG_CACHE_HOME/netimage)',
)

export interface StoreFlags {
  from?: string[] | undefined
  trustedPublicKeys?: string[] | undefined
  checkSigs: boolean
  netrcFile?: string | undefined
}

export function storeChoice(flags: StoreFlags): StoreChoice {
  return withoutUndefined<StoreChoice>({
    checkSignatures: flags.checkSigs,
    from: flags.from,
    trustedPublicKeys: flags.trustedPublicKeys,
    netrcFile: flags.netrcFile,
  })
}

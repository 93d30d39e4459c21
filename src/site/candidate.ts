/** Makes a candidate of an image of the site. */
import { dirname, join } from 'node:path'

import { baseNameOf } from '../nix/store-path.ts'
import { findStoreFile } from '../nixos/store-files.ts'
import type { Candidate } from './life/life.ts'

/** The unit of our module that notes that a boot is good: see nix/bless.nix. */
export const blessUnit = 'etc/systemd/system/netimage-bless.service'

interface OfSite {
  id: string
  manifest: { system: { toplevel: string; entries: readonly { init: string }[] } }
  rootImage: { storePaths: readonly { name: string; at: string }[] }
}

/** @throws `NetimageError` if the files of the system cannot be read */
export async function candidateOf({ id, manifest, rootImage }: OfSite): Promise<Candidate> {
  const { toplevel } = manifest.system
  const places = new Map(rootImage.storePaths.map(({ name, at }) => [name, at]))
  const unit = await findStoreFile(
    (path) => Promise.resolve(places.get(baseNameOf(path))),
    join(toplevel, blessUnit),
  )
  const specialisations = specialisationsOf(manifest.system)
  return { image: id, toplevel, specialisations, blesses: unit !== undefined }
}

/** The systems of the boot entries besides the first, which is the system itself. */
export function specialisationsOf({ toplevel, entries }: OfSite['manifest']['system']): string[] {
  return entries.map(({ init }) => dirname(init)).filter((system) => system !== toplevel)
}

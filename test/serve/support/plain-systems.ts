// Systems of images that are on no disk. The gate only passes on the systems that it opens.

import assert from 'node:assert/strict'
import { findLoaders } from '../../../src/boot/loaders.ts'
import type { BootPart } from '../../../src/boots/boot-parts.ts'
import type { OpenSystem } from '../../../src/serve/open-systems.ts'
import { imageIn } from '../../site/publish/support/images.ts'

export const plainRoot = '/srv/root'

const parts = new Map<string, BootPart>([
  ['boot.ipxe', 'loader'],
  ['start4.elf', 'loader'],
  ['fixup4.dat', 'loader'],
  ['config.txt', 'loader'],
  ['kernel8.img', 'kernel'],
  ['kernel', 'kernel'],
  ['initrd', 'initrd'],
])

export const plainPartOf = (file: string) => parts.get(file)

export function plainSystem(id: string): OpenSystem {
  const [toplevel, bootTree] = [`/nix/store/${id}`, `/images/${id}/boot`]
  return {
    image: { id, directory: `/images/${id}`, name: id, toplevel },
    ...{ toplevel, platform: 'x86_64-linux', bootTree, rootPath: plainRoot },
    loaders: findLoaders(new Set(), () => undefined, ''),
    ...{ inits: [], partOf: plainPartOf, keptImages: [] },
    publishImage: imageIn(bootTree, undefined),
    openIndex: () => assert.fail('nothing opens the root'),
  }
}

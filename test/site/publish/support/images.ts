// Images of machines that publish systems.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { BootOrigin } from '../../../../src/image/boot-origin.ts'
import type { Manifest } from '../../../../src/image/manifest.ts'
import type { PublishImage } from '../../../../src/site/publish/boot-tree.ts'
import { inventPath } from '../../../support/synthetic.ts'

export const imageToplevel = inventPath('nixos-system-of-image')

/** @param files of the boot tree that do not come from the system */
export function imageIn(
  directory: string,
  made: Partial<BootOrigin> | undefined,
  files: Record<string, string> = {},
): PublishImage {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), content)
  }
  const origin = { ways: ['ipxe'], signed: false, fromSettings: [], fromCommands: [] } as const
  const boot: Manifest['boot'] = {
    files: [],
    ...(made && {
      made: { ...origin, ways: ['ipxe'], fromSettings: [], fromCommands: [], ...made },
    }),
  }
  return {
    id: 'image',
    manifest: {
      system: {
        ...{ toplevel: imageToplevel, label: 'image', platform: 'x86_64-linux' },
        ...{ entries: [], fileSystems: [] },
      },
      options: {
        ...{ imageBaseName: 'image', rootDirectoryName: 'pi', storePaths: [] },
        nfsRoot: '10.0.0.5:/srv/pi,v3',
        ...{ populateFirmwareCommands: '', populateRootCommands: '' },
      },
      boot,
    },
    bootTree: directory,
    keptImages: [],
  }
}

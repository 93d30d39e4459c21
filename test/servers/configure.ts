// Writes the configuration of a server for an image that has only a manifest and the first bytes of
// its loaders.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { imageLayout } from '../../src/image/layout.ts'
import {
  formatManifest,
  parseManifest,
  type Manifest,
  type ReadImage,
} from '../../src/image/manifest.ts'
import { serverKinds } from '../../src/servers/configure.ts'
import { planServers, type ServerSettings } from '../../src/servers/plan.ts'
import { storePath } from '../support/path-infos.ts'
import { peHeader } from '../support/pe-header.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const toplevel = storePath(`/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`)
const options = {
  imageBaseName: 'image',
  rootDirectoryName: 'root',
  storePaths: [],
  nfsRoot: '10.0.0.5:/srv,v3',
  populateFirmwareCommands: '',
  populateRootCommands: '',
}
function imageWith(files: readonly string[]): ReadImage {
  const manifest: Manifest = {
    version: 1,
    system: { toplevel, label: '25.11', platform: 'x86_64-linux', entries: [], fileSystems: [] },
    options,
    closure: [],
    root: { format: 'directory', owner: { uid: 0, gid: 0 }, files: [] },
    boot: {
      files: files.map((path) => {
        return { type: 'file', path, mode: '0644', size: 1, sha256: 'a'.repeat(64) }
      }),
    },
  }
  return parseManifest(formatManifest(manifest), 'the-manifest')
}

const bootFiles = ['boot.ipxe', 'bootaa64.efi', 'bootx64.efi']
const image = temporaryDirectory()
const { boot } = imageLayout(image, 'root')
mkdirSync(boot, { recursive: true })
for (const processor of ['x64', 'aa64', 'riscv64'] as const) {
  writeFileSync(join(boot, `boot${processor}.efi`), peHeader(processor))
}

/** @param files the paths in the boot tree */
export function configure(
  server: keyof typeof serverKinds,
  settings: ServerSettings,
  files: readonly string[] = bootFiles,
): string {
  return serverKinds[server].configure(planServers(image, imageWith(files), settings))
}

// An image whose paths have every printable character of ASCII, and the servers' configuration for
// it.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { imageLayout } from '../../../src/image/layout.ts'
import { formatManifest, parseManifest, type Manifest } from '../../../src/image/manifest.ts'
import { serverKinds, type ServerName } from '../../../src/servers/configure.ts'
import { planServers } from '../../../src/servers/plan.ts'
import { storePath } from '../../support/path-infos.ts'

const printable = Array.from({ length: 0x7f - 0x20 }, (_, index) =>
  String.fromCharCode(0x20 + index),
).join('')

/** All characters for the name of a file, so without a slash. */
export const oddName = `${printable.replace('/', '')} é\u2003`

/** A path for nfsRoot. There a space or a comma ends a path; for libnfs, a question mark does. */
export const oddPath = `/srv/${printable.replaceAll(/[ ,/?]/g, '')}é`

const manifest: Manifest = {
  version: 1,
  system: {
    toplevel: storePath(`/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`),
    label: '25.11',
    platform: 'x86_64-linux',
    entries: [],
    fileSystems: [],
  },
  options: {
    imageBaseName: 'image',
    rootDirectoryName: 'root',
    storePaths: [],
    nfsRoot: `10.66.0.1:${oddPath},v3`,
    populateFirmwareCommands: '',
    populateRootCommands: '',
  },
  closure: [],
  root: { format: 'directory', owner: { uid: 0, gid: 0 }, files: [] },
  boot: { files: [] },
}

export type OddImage = {
  rootTree: string
  configure: (server: ServerName, interfaceName: string) => string
}

/** Each tree has one file with the name "file". */
export function makeOddImage(image: string): OddImage {
  const { root, boot } = imageLayout(image, 'root')
  for (const tree of [root, boot]) {
    mkdirSync(tree, { recursive: true })
    writeFileSync(join(tree, 'file'), `in ${tree}`)
  }
  const read = parseManifest(formatManifest(manifest), 'the-manifest')
  return {
    rootTree: root,
    configure: (server, interfaceName) => {
      const settings = { interface: interfaceName, range: '10.66.0.100-10.66.0.199' }
      return serverKinds[server].configure(planServers(image, read, settings))
    },
  }
}

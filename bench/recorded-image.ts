/** An image that has all that the recorded boot asks for: see boot-requests.txt. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { buildNetImage } from '../src/index.ts'
import {
  cachedPath,
  inventSystem,
  makeKey,
  writeCache,
  type Tree,
} from '../test/support/synthetic.ts'
import type { Workspace } from '../test/support/workspace.ts'

type Directory = Tree & { directory: Record<string, Tree> }

/**
 * @param lines of boot-requests.txt
 * @param nfsRoot as in `10.66.0.1:/srv/machine,v3`
 * @returns the trees of the image
 */
export async function buildRecordedImage(
  { image, pool, path }: Workspace,
  lines: readonly string[],
  nfsRoot: string,
): Promise<{ image: string; rootTree: string }> {
  const files = path('boot-files')
  const store: Directory = { directory: {} }
  for (const line of lines) {
    const [kind, ...words] = line.split(' ')
    if (kind === 'fetch') {
      const [, bytes, file = ''] = words
      mkdirSync(dirname(join(files, file)), { recursive: true })
      writeFileSync(join(files, file), randomBytes(Number(bytes)))
    } else if (kind === 'node') {
      addNode(store, words)
    }
  }
  const key = makeKey('recorded-1')
  const options = { keys: [key], compression: 'none' as const }
  const paths = Object.entries(store.directory).map(([name, tree]) =>
    cachedPath(`/nix/store/${name}`, tree, options),
  )
  const references = paths.map((each) => each.path)
  const { toplevel, kernel } = inventSystem('recorded', references, [key])
  writeCache(path('cache'), [toplevel, kernel, ...paths])
  const { manifest } = await buildNetImage({
    system: toplevel.path,
    from: [`file://${path('cache')}`],
    trustedPublicKeys: [key.publicKey],
    ...{ output: image, pool, boot: [] },
    options: { nfsRoot, populateFirmwareCommands: `cp -r ${files}/. .` },
  })
  return { image, rootTree: join(image, 'net-image', manifest.options.rootDirectoryName) }
}

function addNode(store: Directory, [type, mode = '', value = '', path = '']: string[]): void {
  const [, nix, storeName, ...names] = path.split('/')
  const last = names.pop()
  // The image has the rest itself.
  if (nix !== 'nix' || storeName !== 'store' || last === undefined) return
  let { directory } = store
  for (const name of names) {
    const child = (directory[name] ??= { directory: {} })
    if (!('directory' in child)) throw new Error(`${path} is below what is no directory`)
    directory = child.directory
  }
  if (type === 'directory') directory[last] ??= { directory: {} }
  else if (type === 'symlink') directory[last] = { link: value }
  else {
    const executable = (Number.parseInt(mode, 8) & 0o111) !== 0
    directory[last] = { file: randomBytes(Number(value)), executable }
  }
}

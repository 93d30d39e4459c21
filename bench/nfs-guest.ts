/**
 * An emulated machine with two NFS servers for bench/serve-nfs-kernel.ts: that of its kernel, and ours. Each
 * serves a tree of its own, on the same disk.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { startKernelNfsServer } from '../test/e2e/support/kernel-nfs-server.ts'
import type { PoweredMachine } from '../test/e2e/support/machines.ts'
import type { Network } from '../test/e2e/support/network.ts'

export const guestAddress = '10.66.0.2'
/** Of our server. */
export const guestPort = 22049
/** What the kernel exports; our server exports `/tree`. */
export const guestTree = '/disk/tree'

/** What our server needs of this repository. */
const sources = [
  ...['package.json', 'src', 'test/roots/support', 'bench/serve-nfs-program.ts'],
  ...['p-limit', 'valibot', 'yocto-queue'].map((name) => join('node_modules', name)),
]

/** @param directory for the files of the disk */
export async function startNfsGuest(
  network: Network,
  tree: string,
  directory: string,
): Promise<PoweredMachine> {
  const own = join(directory, 'own')
  for (const name of ['dev', 'layer', 'lib64', 'proc', 'tmp']) {
    mkdirSync(join(own, name), { recursive: true })
  }
  cpSync(tree, join(directory, 'tree'), { recursive: true })
  cpSync(tree, join(own, 'tree'), { recursive: true })
  const repository = join(import.meta.dirname, '..')
  for (const name of sources) {
    cpSync(join(repository, name), join(own, name), { recursive: true, dereference: true })
  }
  copyFileSync(process.execPath, join(own, 'node'))
  const listed = execFileSync('ldd', [process.execPath], { encoding: 'utf8' })
  for (const [library] of listed.matchAll(/\/lib\S+/g)) {
    const folder = join(own, dirname(library))
    mkdirSync(folder, { recursive: true })
    copyFileSync(library, join(folder, basename(library)))
  }
  const guest = await startKernelNfsServer(network, {
    ...{ address: `${guestAddress}/24`, rootTree: directory, path: dirname(guestTree) },
    exports: `${guestTree} *(rw,sync,no_root_squash,no_subtree_check)\n`,
    beside: `mount -t proc proc own/proc; mount -t devtmpfs devtmpfs own/dev
chroot own /node /bench/serve-nfs-program.ts ${guestAddress} ${guestPort} /tree /layer`,
  })
  await guest.waitFor(/^ready/)
  return guest
}

// Machines run from the image of the site, whatever happens to the directory that `build` made.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, lstatSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { lockToReplace } from '../../src/image/image-lock.ts'
import { openBootFile } from '../../src/protocols/boot-files.ts'
import { removeUnused } from '../../src/site/images/remove-unused.ts'
import { netimageError } from '../support/errors.ts'
import { asOrdinaryUser } from '../support/namespace.ts'
import { repository } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { makeWorkspace, removeTree, type Workspace } from '../support/workspace.ts'
import { identitiesOf } from './support/identities.ts'
import { openMachines, rootOf, type OpenMachines } from './support/machines.ts'
import { buildServedImage, buildTo, servedFile } from './support/served-image.ts'

const freshName = freshNames(temporaryDirectory())
const address = '10.0.0.7'

suite('an image that is served', () => {
  let workspace: Workspace
  let built: string

  before(async () => {
    workspace = makeWorkspace('in-use')
    built = await buildServedImage(workspace, '127.0.0.1:/srv/test,v3')
  })
  after(() => workspace.remove())

  function copyOf(image: string): string {
    const copy = freshName()
    cpSync(image, copy, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    return copy
  }

  async function serve(image: string, state = freshName()) {
    const opened = await openMachines(state, [image], identitiesOf())
    const bootFile = async (name: string) => {
      const found = await openBootFile(opened.machines.treesOf, address, name)
      if (found.kind !== 'file') return 'reason' in found ? found.reason : ''
      const text = await found.handle.readFile('utf8')
      await found.handle.close()
      return text
    }
    return { ...opened, bootFile }
  }

  /** A file of the root of a machine. */
  async function rootFile(opened: OpenMachines): Promise<string> {
    const { fileSystem } = await rootOf(opened, address)
    const node = servedFile.reduce<number | undefined>(
      (directory, name) => directory && fileSystem.lookup(directory, Buffer.from(name)),
      fileSystem.root,
    )
    const into = Buffer.alloc(100)
    return into.subarray(0, fileSystem.read(node ?? 0, 0, into)).toString()
  }

  test('is the same for machines if a build replaces its source, or somebody removes it', async () => {
    const image = workspace.path('out/served')
    cpSync(built, image, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    const { ino } = lstatSync(image)
    await using serving = await serve(image)
    const { bootFile, errors } = serving
    const before = [await bootFile('boot.ipxe'), await rootFile(serving)]
    assert.match(before.join(), /^#!ipxe.*,serve$/s)
    const run = await buildTo(workspace, image, '--force', '--nfs-root', '127.0.0.1:/other,v3')
    assert.equal(run.status, 0, run.stderr)
    assert.notEqual(lstatSync(image).ino, ino)
    assert.deepEqual(workspace.leftovers(), [])
    assert.deepEqual([await bootFile('boot.ipxe'), await rootFile(serving)], before)
    await removeTree(image)
    assert.deepEqual([await bootFile('boot.ipxe'), await rootFile(serving)], before)
    assert.deepEqual(errors, [])
  })

  test('is not removed from the site while it is served', async () => {
    const state = freshName()
    let id: string
    {
      await using serving = await serve(built, state)
      id = (await readdir(join(state, 'images')))[0] ?? ''
      const { inUse, removedImages } = await removeUnused(state, () => new Set())
      assert.deepEqual([inUse, removedImages], [[id], []])
      assert.equal(await rootFile(serving), 'serve')
    }
    const { removedImages } = await removeUnused(state, () => new Set())
    assert.deepEqual(removedImages, [id])
  })

  test('is locked even if the user may only read the image', async () => {
    const image = copyOf(built)
    // From the image up to the machine's own temporary directory.
    for (const directory of [join(image, '..'), image]) chmodSync(directory, 0o755)
    const place = freshName()
    const through = asOrdinaryUser(place)
    const seen = (path: string) => (through.length > 0 ? path.replace(repository, place) : path)
    const program = `
      import { holdImage } from ${JSON.stringify(join(seen(repository), 'src/image/image-lock.ts'))}
      await holdImage(${JSON.stringify(image)})
      console.log('held')
      process.stdin.resume()`
    const node = [seen(process.execPath), '--input-type=module', '--eval', program]
    const [command = '', ...rest] = [...through, ...node]
    const holder = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
    const ended = once(holder, 'close')
    try {
      assert.equal(String(await Promise.race([once(holder.stdout, 'data'), ended])), 'held\n')
      await assert.rejects(lockToReplace(image), netimageError('in-use', { file: image }))
    } finally {
      holder.kill('SIGKILL')
      await ended
    }
    const lock = await lockToReplace(image)
    lock?.release()
  })
})

// Machines run from the image of the site, whatever happens to the directory that `build` made.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chmodSync, cpSync, lstatSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { lockToReplace } from '../../src/image/image-lock.ts'
import { openBootFile } from '../../src/protocols/boot-files.ts'
import { createMachines, type Machines } from '../../src/serve/machines.ts'
import { removeUnused } from '../../src/site/images/remove-unused.ts'
import { netimageError } from '../support/errors.ts'
import { asOrdinaryUser } from '../support/namespace.ts'
import { repository } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { makeWorkspace, removeTree, type Workspace } from '../support/workspace.ts'
import { callerAt, identitiesOf } from './support/identities.ts'
import { buildServedImage, buildTo, openBuiltImage, servedFile } from './support/served-image.ts'

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
    const served = await openBuiltImage(state, image)
    const errors: string[] = []
    const machines = createMachines({
      ...{ images: [served], state, identities: identitiesOf(), ephemeral: false },
      onError: ({ message }) => errors.push(message),
    })
    const bootFile = async (name: string) => {
      const found = await openBootFile(machines.treesOf, address, name)
      if (found.kind !== 'file') return 'reason' in found ? found.reason : ''
      const text = await found.handle.readFile('utf8')
      await found.handle.close()
      return text
    }
    const close = async () => {
      await machines.close()
      served.release()
    }
    return { served, machines, errors, bootFile, [Symbol.asyncDispose]: close }
  }

  /** A file of the root of a machine. */
  function rootFile(machines: Machines): string {
    const machine = machines.nfsMachineOf(callerAt(address))
    assert.ok(typeof machine === 'object')
    const [{ fileSystem } = assert.fail()] = machine.exports
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
    const { machines, bootFile, errors } = serving
    const before = [await bootFile('boot.ipxe'), rootFile(machines)]
    assert.match(before.join(), /^#!ipxe.*,serve$/s)
    const run = await buildTo(workspace, image, '--force', '--nfs-root', '127.0.0.1:/other,v3')
    assert.equal(run.status, 0, run.stderr)
    assert.notEqual(lstatSync(image).ino, ino)
    assert.deepEqual(workspace.leftovers(), [])
    assert.deepEqual([await bootFile('boot.ipxe'), rootFile(machines)], before)
    await removeTree(image)
    assert.deepEqual([await bootFile('boot.ipxe'), rootFile(machines)], before)
    assert.deepEqual(errors, [])
  })

  test('is not removed from the site while it is served', async () => {
    const state = freshName()
    let id: string
    {
      await using serving = await serve(built, state)
      id = serving.served.index.identity
      const { inUse, removedImages } = await removeUnused(state, () => new Set())
      assert.deepEqual([inUse, removedImages], [[id], []])
      assert.equal(rootFile(serving.machines), 'serve')
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

  test('gives out neither boot files nor roots after its manifest has changed', async () => {
    await using serving = await serve(built)
    const image = serving.served.directory
    const manifest = join(image, 'nix-support/net-image.json')
    chmodSync(manifest, 0o644)
    appendFileSync(manifest, '\n')
    const told = new RegExp(`${image} has changed while it was served`)
    assert.match(await serving.bootFile('boot.ipxe'), told)
    assert.equal(serving.machines.nfsMachineOf(callerAt(address)), 'busy')
    assert.match(serving.errors.join(), told)
  })
})

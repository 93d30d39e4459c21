// An image that is served is not replaced, and no file of another build is served in its place.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chmodSync, cpSync, lstatSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { lockToReplace } from '../../src/image/image-lock.ts'
import { openBootFile } from '../../src/protocols/boot-files.ts'
import { createMachines } from '../../src/serve/machines.ts'
import { openServedImage } from '../../src/serve/served-image.ts'
import { netimageError } from '../support/errors.ts'
import { asOrdinaryUser } from '../support/namespace.ts'
import { assertFailed, repository } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { callerAt, identitiesOf } from './support/identities.ts'
import { buildServedImage, buildTo } from './support/served-image.ts'

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

  async function serve(image: string) {
    const served = await openServedImage(image, 'http://127.0.0.1/')
    const errors: string[] = []
    const machines = createMachines({
      ...{ images: [served], state: freshName(), identities: identitiesOf(), ephemeral: false },
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

  test('is not replaced by a build until it is not served any more', async () => {
    const image = workspace.path('out/served')
    cpSync(built, image, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    const { ino } = lstatSync(image)
    {
      await using serving = await serve(image)
      const run = await buildTo(workspace, image, '--force', '--json')
      assert.equal(run.status, 5, run.stderr)
      const { hint } = assertFailed(run, 'in-use', { file: image })
      assert.match(hint ?? '', /-o/)
      assert.equal(lstatSync(image).ino, ino)
      assert.deepEqual(serving.errors, [])
    }
    const run = await buildTo(workspace, image, '--force')
    assert.equal(run.status, 0, run.stderr)
    assert.notEqual(lstatSync(image).ino, ino)
    assert.deepEqual(workspace.leftovers(), [])
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

  test('is still served, boot files and root, if another image gets its name', async () => {
    const [image, other] = [copyOf(built), copyOf(built)]
    appendFileSync(join(other, 'net-image/boot/boot.ipxe'), '# of the other\n')
    const script = readFileSync(join(image, 'net-image/boot/boot.ipxe'), 'utf8')
    await using serving = await serve(image)
    renameSync(image, freshName())
    renameSync(other, image)
    assert.equal(await serving.bootFile('boot.ipxe'), script)
    const machine = serving.machines.nfsMachineOf(callerAt(address))
    assert.equal(typeof machine, 'object')
    assert.deepEqual(serving.errors, [])
  })

  test('gives out neither boot files nor roots after its manifest has changed', async () => {
    const image = copyOf(built)
    await using serving = await serve(image)
    appendFileSync(join(image, 'nix-support/net-image.json'), '\n')
    const told = new RegExp(`${image} has changed while it was served`)
    assert.match(await serving.bootFile('boot.ipxe'), told)
    assert.equal(serving.machines.nfsMachineOf(callerAt(address)), 'busy')
    assert.match(serving.errors.join(), told)
  })
})

// Machines run from the image of the site, whatever happens to the directory that `build` made.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, lstatSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { lockToReplace } from '../../src/image/image-lock.ts'
import type { NetimageError } from '../../src/errors.ts'
import { openBootFile } from '../../src/protocols/boot-files.ts'
import { readSmallFile } from '../../src/roots/find-node.ts'
import { createOpenSystems } from '../../src/serve/open-systems.ts'
import type { Candidate } from '../../src/site/life/life.ts'
import { removeUnused } from '../../src/site/images/remove-unused.ts'
import { removeTree } from '../../src/remove-tree.ts'
import { textOf } from '../protocols/support/file-text.ts'
import { netimageError } from '../support/errors.ts'
import { asOrdinaryUser } from '../support/namespace.ts'
import { repository } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { identitiesOf } from './support/identities.ts'
import { openMachines, rootOf, type OpenMachines } from './support/machines.ts'
import { addTo } from './support/person.ts'
import { buildOtherTo, buildTo, servedFile } from './support/served-image.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const freshName = freshNames(temporaryDirectory())
const address = '10.0.0.7'

const { workspace, image: built } = await servedWorkspace('in-use')

suite('an image that is served', () => {
  async function buildOther(): Promise<string> {
    const place = workspace.path('out/other')
    const flags = ['--force', '--nfs-root', '127.0.0.1:/srv/test,v3']
    const run = await buildOtherTo(workspace, place, ...flags)
    assert.equal(run.status, 0, run.stderr)
    return place
  }

  function copyOf(image: string): string {
    const copy = freshName()
    cpSync(image, copy, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    return copy
  }

  async function serve(image: string, state = freshName()) {
    const opened = await openMachines(state, [image], identitiesOf())
    const bootFile = async (name: string) => {
      const found = await openBootFile(opened.machines.treesOf, { address, protocol: 'http' }, name)
      if (found.kind !== 'file') return 'reason' in found ? found.reason : ''
      const text = textOf(found.file)
      found.close()
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
    removeTree(image)
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

  test('is let go when no machine uses it any more, and can come again', async () => {
    const state = freshName()
    const otherPlace = await buildOther()
    await using serving = await serve(built, state)
    const { site, systems, machines, boots } = serving
    /** @returns the ids of the images that the server still uses, and those that were removed */
    const bootAndCollect = async (candidate: Candidate) => {
      await site.assign(address, candidate, Date.now(), 'person')
      await boots(address)
      const { fileSystem } = await rootOf(serving, address)
      const path = `${candidate.toplevel}/nixos-version`.split('/').filter(Boolean)
      assert.ok(readSmallFile(fileSystem, path, 100) !== undefined, path.join('/'))
      await waitUntil('the root before is closed', () =>
        machines.systems().every(({ image }) => image.id === candidate.image),
      )
      systems.closeUnused(machines.systems())
      return await removeUnused(state, () => new Set())
    }
    const [one, other] = [await addTo(state, built), await addTo(state, otherPlace)]
    for (let round = 0; round < 2; round++) {
      const ofOther = await bootAndCollect(other)
      assert.deepEqual([ofOther.inUse, ofOther.removedImages], [[other.image], [one.image]])
      await addTo(state, built)
      const ofOne = await bootAndCollect(one)
      assert.deepEqual([ofOne.inUse, ofOne.removedImages], [[one.image], [other.image]])
      await addTo(state, otherPlace)
    }
    assert.deepEqual(serving.errors, [])
  })

  // An image that a machine is to boot is in the site's database before the server opens it. A garbage
  // collection reads this again after it has locked the images.
  test('is opened or refused as a whole while a garbage collection runs', async () => {
    const state = freshName()
    const { image: id } = await addTo(state, built)
    const systems = createOpenSystems({ state, http: 'http://127.0.0.1/', onError: assert.fail })
    const openWhile = async (keep: string[]) => {
      let calls = 0
      const opened: Promise<unknown>[] = []
      await removeUnused(state, () => {
        // The images are locked at the second call.
        if (++calls === 2) {
          const opening = systems.openImage(id)
          // It can be refused before the end of the garbage collection.
          opening.catch(() => {})
          opened.push(opening)
        }
        return new Set(keep)
      })
      return await opened[0]
    }
    assert.partialDeepStrictEqual(await openWhile([id]), { image: { id } })
    systems.closeUnused([])
    await assert.rejects(openWhile([]), netimageError('path-not-found'))
    systems.close()
  })

  test('stays open while it is being opened', async () => {
    const state = freshName()
    const { image: one } = await addTo(state, built)
    const { image: other } = await addTo(state, await buildOther())
    const systems = createOpenSystems({ state, http: 'http://127.0.0.1/', onError: assert.fail })
    const toplevel = '/nix/store/system'
    const generation = { image: one, toplevel, blesses: true, number: 1, madeAt: 0, spent: 0 }
    const attempt = { number: 1, generation: 1, keptImages: [other], startedAt: 0, from: 0 }
    let isOpen = false
    const opening = systems.open('machine', {
      // Its boot files are read from the disk, so others have a turn meanwhile.
      generation: { ...generation, verdict: 'trial', failures: 0, published: 'missing' },
      attempt: { ...attempt, outcome: 'running' },
    })
    const looks = async () => {
      while (!isOpen) {
        systems.closeUnused([])
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const looking = looks()
    try {
      await assert.rejects(opening, netimageError('file-system'))
      assert.equal(systems.images().length, 2)
    } finally {
      isOpen = true
      await looking
      systems.close()
    }
  })

  test('is booted also if the image of an earlier generation is gone', async () => {
    const state = freshName()
    const { image: id } = await addTo(state, built)
    const errors: string[] = []
    const onError = ({ code }: NetimageError) => void errors.push(code)
    const systems = createOpenSystems({ state, http: 'http://127.0.0.1/', onError })
    const generation = { image: id, toplevel: '/nix/store/system', blesses: true, number: 2 }
    const attempt = { number: 2, generation: 2, startedAt: 0, from: 0, outcome: 'running' } as const
    const opened = await systems.open('machine', {
      generation: { ...generation, madeAt: 0, verdict: 'trial', failures: 0, spent: 0 },
      attempt: { ...attempt, keptImages: ['0'.repeat(64)] },
    })
    assert.deepEqual([opened.image.id, opened.keptImages], [id, []])
    assert.deepEqual(errors, ['path-not-found'])
    systems.close()
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

// Changes of the images of a site, and what must hold after one of them was cut off at any moment.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { removeTree } from '../../../../src/remove-tree.ts'
import { openSiteToRead } from '../../../../src/site/database.ts'
import { addImage } from '../../../../src/site/images/add-image.ts'
import { removeUnused } from '../../../../src/site/images/remove-unused.ts'
import { imageIds, openSiteImage } from '../../../../src/site/images/site-image.ts'
import { assertSameLines, describeTree } from '../../../support/trees.ts'
import { pushBetween } from '../../push/support/in-process.ts'

/** The directories of two images that `build` made. */
export interface Sources {
  first: string
  second: string
}

export interface SiteChange {
  name: string
  /** Makes the site as it is before the change. `state` does not exist yet. */
  prepare(state: string): Promise<void>
  make(state: string): Promise<unknown>
  /** Whether the site has the first image after the change. */
  result: boolean
  /**
   * Fails unless the first image is there whole or not at all, and all else is as before. Then removes
   * the image from a copy of the site, and makes the change again.
   *
   * @returns whether the site had the image before this
   */
  check(state: string, { mayLackRow }?: { mayLackRow: boolean }): Promise<boolean>
}

/** The store path that a repair replaces. Both images have it. */
const damaged = 'content-1'

/** @param scratch an existing directory. The changes need it as long as they are used. */
export async function changesOf(sources: Sources, scratch: string): Promise<SiteChange[]> {
  const reference = join(scratch, 'reference')
  const first = await add(reference, sources.first)
  const second = await add(reference, sources.second)
  const whole = new Map<string, Part[]>()
  for (const id of [first, second]) whole.set(id, await partsOf(reference, id))
  const storedBy = (ids: readonly string[]) => {
    const parts = ids.flatMap((id) => whole.get(id) ?? [])
    return parts.flatMap(({ name, stored }) => (stored === undefined ? [] : [{ name, stored }]))
  }

  /** @param but a part that need not be whole */
  async function assertWhole(state: string, id: string, but?: string): Promise<void> {
    const lines = (parts: readonly Part[]) =>
      parts.filter(({ name }) => name !== but).flatMap((part) => part.lines)
    assertSameLines(lines(await partsOf(state, id)), lines(whole.get(id) ?? []))
  }

  async function assertOthers(state: string, others: readonly string[], but?: string) {
    assert.deepEqual(
      imageIds(state).filter((id) => id !== first),
      others,
    )
    for (const id of others) await assertWhole(state, id, but)
    const made = /^(images|images\.lock|store|site\.sqlite(-wal|-shm)?)$/
    assert.deepEqual(
      readdirSync(state).filter((name) => !made.test(name)),
      ['layers'],
    )
    assert.deepEqual(describeTree(join(state, 'layers'), { times: false }).length, 2)
  }

  function change(
    name: string,
    {
      others,
      make,
      prepare = () => {},
      repairs = false,
      result = true,
    }: {
      others: readonly string[]
      make: (state: string) => Promise<unknown>
      prepare?: (state: string) => Promise<void> | void
      /** The damaged store path need not be whole before the second try. */
      repairs?: boolean
      result?: boolean
    },
  ): SiteChange {
    const but = repairs ? damaged : undefined
    return {
      ...{ name, make, result },
      async prepare(state) {
        mkdirSync(join(state, 'layers'), { recursive: true })
        writeFileSync(join(state, 'layers/file'), 'of a machine')
        if (others.length > 0) await add(state, sources.second)
        await prepare(state)
      },
      async check(state, { mayLackRow } = { mayLackRow: false }) {
        const isThere = imageIds(state).includes(first)
        await assertOthers(state, others, but)
        if (isThere) assert.ok(logOf(state, first).includes('added'))
        if (!isThere && !result && !mayLackRow) {
          assert.equal(logOf(state, first).at(-1), 'removed')
        }
        if (isThere && !repairs) await assertWhole(state, first)

        const without = join(state, '..', 'without')
        execFileSync('cp', ['-a', state, without])
        // Otherwise store paths that came already are kept for the next push.
        rmSync(join(without, 'images', `.coming-${first}`), { force: true })
        await removeFirst(without)
        assert.deepEqual(leftoversOf(without), [])
        await assertOthers(without, others, but)
        const kept = storedBy(others).filter(({ name }) => name !== but)
        const missing = kept.filter(({ stored }) => !existsSync(join(without, 'store', stored)))
        assert.deepEqual(missing, [])
        const known = new Set(storedBy(others).map(({ stored }) => stored))
        const found = readdirSync(join(without, 'store'))
        assert.deepEqual(
          found.filter((stored) => !known.has(stored)),
          [],
        )
        removeTree(without)

        await make(state)
        assert.equal(imageIds(state).includes(first), result)
        if (result) await assertWhole(state, first)
        await assertOthers(state, others)
        assert.deepEqual(leftoversOf(state), [])
        return isThere
      },
    }
  }

  const removeFirst = (state: string) =>
    removeUnused(state, () => new Set(imageIds(state).filter((id) => id !== first)))
  const addFirst = async (state: string) => void (await add(state, sources.first))
  /** From the reference, which has both. */
  const receiveFirst = async (state: string) => {
    const { failure } = await pushBetween(reference, [first], state)
    if (failure) throw failure
  }
  return [
    change('adds the first image', { others: [], make: addFirst }),
    change('adds another image', { others: [second], make: addFirst }),
    change('receives an image', { others: [second], make: receiveFirst }),
    change('removes an image', {
      ...{ others: [second], prepare: addFirst, make: removeFirst, result: false },
    }),
    change('repairs an image', {
      ...{ others: [second], repairs: true },
      async prepare(state) {
        await addFirst(state)
        await damage(state, first)
      },
      make: (state) => add(state, sources.first, true),
    }),
  ]
}

/** @returns what the log says of the image. The oldest comes first. */
function logOf(state: string, id: string): string[] {
  const reader = openSiteToRead(state)
  try {
    return (reader?.log({}).rows ?? []).flatMap((row) => {
      assert.ok('entry' in row)
      const { entry } = row
      const images = 'images' in entry ? entry.images : 'image' in entry ? [entry.image] : []
      return images.includes(id) ? [entry.kind] : []
    })
  } finally {
    reader?.close()
  }
}

/** @returns the id */
async function add(state: string, source: string, repair = false): Promise<string> {
  const { image } = await addImage(state, source, { repair })
  image.release()
  return image.id
}

/** A tree of an image, with all of its files. */
interface Part {
  name: string
  /** The name of a store path in the store of the site. */
  stored?: string
  lines: string[]
}

async function partsOf(state: string, id: string): Promise<Part[]> {
  const image = await openSiteImage(state, id)
  image.release()
  const { bootTree, rootImage } = image
  const { outside, storePaths } = rootImage
  const part = (name: string, at: string) => ({
    name,
    lines: (existsSync(at) ? describeTree(at) : []).map((line) => `${name} ${line}`),
  })
  return [
    part('boot', bootTree),
    part('outside', outside),
    ...storePaths.map(({ name, at }) => ({
      ...part(name.replace(/^.{32}-/, ''), at),
      stored: basename(at),
    })),
  ]
}

/** Changes a store path and a boot file. */
async function damage(state: string, id: string): Promise<void> {
  const image = await openSiteImage(state, id)
  image.release()
  appendFileSync(join(image.bootTree, 'boot.ipxe'), 'changed')
  const { at } =
    image.rootImage.storePaths.find(({ name }) => name.endsWith(`-${damaged}`)) ??
    assert.fail(damaged)
  // The files may be the same as in the image that it was added from.
  removeTree(at)
  mkdirSync(at)
  writeFileSync(join(at, 'text'), 'changed')
}

/** Names that are there only while somebody adds or removes images. */
function leftoversOf(state: string): string[] {
  return ['images', 'store']
    .flatMap((folder) => readdirSync(join(state, folder)))
    .filter((name) => name.startsWith('.'))
}

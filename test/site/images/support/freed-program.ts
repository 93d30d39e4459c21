// Removes images of a site and compares the bytes that are told with what the file system says. Fails with
// an error.
//
//     node freed-program.ts DISK FIRST SECOND
//     node freed-program.ts DISK killed
//
// DISK: in a mount namespace of its own, with a file system that cannot clone files. FIRST, SECOND: images
// that `build` made. killed: removes all images of the site, and is killed in the middle of that.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs, {
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { addImage } from '../../../../src/site/images/add-image.ts'
import { removeUnused } from '../../../../src/site/images/remove-unused.ts'
import { countSteps, killAfter } from '../../../support/killed-by-steps.ts'

const [disk = '', first = '', second = ''] = process.argv.slice(2)
const state = join(disk, 'state')

if (first === 'killed') {
  countSteps(fs, 'rmdirSync')
  syncBuiltinESMExports()
  // The row of the log is written before, in a few steps.
  killAfter(25)
  await removeUnused(state, () => new Set())
} else await main()

/** The bytes that are free on the disk, or would be without the database of the site. */
function room(): number {
  const { bfree, bsize } = statfsSync(disk)
  const files = readdirSync(state).filter((name) => name.startsWith('site.sqlite'))
  const blocks = files.map((name) => lstatSync(join(state, name)).blocks)
  return blocks.reduce((sum, each) => sum + each * 512, bfree * bsize)
}

async function add(source: string): Promise<string> {
  const { image, method } = await addImage(state, source)
  image.release()
  assert.equal(method, 'hardlink')
  return image.id
}

/** @returns what was told, after comparing it with the file system */
async function removeBut(...keep: string[]) {
  const before = room()
  const result = await removeUnused(state, () => new Set(keep))
  assert.equal(result.freedBytes, room() - before)
  assert.equal(result.mayShareBlocks, false)
  return result
}

/** Files whose bytes are easily counted wrongly. `others` is a directory that stays. */
function addOddFiles(directory: string, others: string): void {
  const at = (name: string) => join(directory, name)
  mkdirSync(others)
  mkdirSync(at('many'))
  for (let number = 0; number < 300; number++) {
    writeFileSync(at(`many/${'long name '.repeat(20)}${number}`), '')
  }
  writeFileSync(at('twice'), Buffer.alloc(100_000, 1))
  linkSync(at('twice'), at('many/twice'))
  writeFileSync(at('stays'), Buffer.alloc(200_000, 1))
  linkSync(at('stays'), join(others, 'stays'))
  writeFileSync(at('hole'), 'x')
  truncateSync(at('hole'), 10_000_000)
  symlinkSync('short', at('short'))
  symlinkSync('long/'.repeat(100), at('long'))
}

function copy(source: string, name: string): string {
  execFileSync('cp', ['-a', source, join(disk, name)])
  return join(disk, name)
}

async function main(): Promise<void> {
  const sources = { first: copy(first, 'first'), second: copy(second, 'second') }
  const ids = { first: await add(sources.first), second: await add(sources.second) }
  const kept = join(disk, 'kept')
  addOddFiles(join(state, 'images', ids.second), kept)
  // Of a push that never went on.
  const mark = join(state, 'images', `.coming-${'a'.repeat(64)}`)
  writeFileSync(mark, Buffer.alloc(10_000))
  utimesSync(mark, 0, 0)

  const one = await removeBut(ids.first)
  assert.deepEqual([one.removedImages, one.removedStorePaths], [[ids.second], 1])
  assert.ok(one.freedBytes > 100_000 && one.freedBytes < 200_000 + 100_000, `${one.freedBytes}`)
  const none = await removeBut(ids.first)
  assert.equal(none.freedBytes, 0)

  // The files of the store paths have names in the source. So only their directories become free.
  const linked = await removeBut()
  rmSync(sources.first, { recursive: true })
  rmSync(kept, { recursive: true })
  await add(sources.second)
  rmSync(sources.second, { recursive: true })
  const last = await removeBut()
  assert.ok(last.freedBytes > linked.freedBytes, `${last.freedBytes} ${linked.freedBytes}`)

  const again = copy(second, 'again')
  addOddFiles(join(state, 'images', await add(again)), kept)
  rmSync(again, { recursive: true })
  const before = room()
  const args = [import.meta.filename, disk, 'killed']
  assert.equal(spawnSync(process.execPath, args, { stdio: 'inherit' }).signal, 'SIGKILL')
  const freedByKilled = room() - before
  const rest = await removeBut()
  assert.deepEqual(rest.removedImages, [])
  assert.ok(freedByKilled > 0 && rest.freedBytes > 0, `${freedByKilled} ${rest.freedBytes}`)
  process.stdout.write('as expected\n')
}

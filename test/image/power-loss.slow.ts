// The machine loses its power during a build or just afterwards. An ext4 on a separate disk is shut
// down without writing its log, so all data that was not yet on that disk is lost.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { mounted } from '../support/namespace.ts'
import { netimage, parseObject } from '../support/netimage.ts'
import { cutCommand } from '../support/powered-disk.ts'
import { inventLargeSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const rounds = 3

/**
 * Builds, cuts the power after the build or during it, looks for the image, and builds again.
 */
const script = `
  mke2fs -q -t ext4 disk 128M
  mkdir -p disk-mounted logs
  mount -o loop disk disk-mounted
  if [ -n "$old" ]; then "$@" build "$old" $options > logs/old 2>&1; sync; fi
  if [ -n "$delay" ]; then
    "$@" build "$new" $options --force > logs/first 2>&1 & first=$!
    sleep "$delay"
    ${cutCommand('disk-mounted', 'lost')}
    wait $first || true
  else
    "$@" build "$new" $options --force > logs/first 2>&1
    ${cutCommand('disk-mounted', 'lost')}
  fi
  umount disk-mounted
  mount -o loop disk disk-mounted
  if [ -e disk-mounted/image ]; then "$@" verify disk-mounted/image --json > logs/found || true; fi
  "$@" build "$new" $options --force > logs/second 2>&1 || { cat logs/second >&2; exit 1; }
  "$@" verify disk-mounted/image --json > logs/verified || true
  umount disk-mounted
`

suite('after a loss of power', () => {
  let workspace: Workspace
  const key = makeKey('power-1')
  const size = { paths: 30, bytes: 40_000, keys: [key] }
  const [first, second] = [inventLargeSystem('first', size), inventLargeSystem('second', size)]
  before(() => {
    workspace = makeWorkspace('power')
    writeCache(workspace.path('cache'), [...first.all, ...second.all])
  })
  after(() => workspace.remove())

  async function lose(name: string, pool: string, old: string, delay: string) {
    const cwd = workspace.path(name)
    const options = [
      ...['--from', `file://${workspace.path('cache')}`, '--pool', pool, '--quiet'],
      ...['-o', 'disk-mounted/image', '--trusted-public-keys', key.publicKey],
    ].join(' ')
    const setUp = 'mkdir -p "$1"; cd "$1"'
    const through = [...mounted(setUp, cwd), 'sh', '-euc', script, 'sh']
    const env = { options, old, new: second.toplevel, delay }
    const run = await netimage([], { through, env })
    assert.equal(run.status, 0, run.stderr)
    const read = (log: string) => {
      const file = join(cwd, 'logs', log)
      return existsSync(file) ? parseObject(readFileSync(file, 'utf8')) : undefined
    }
    assert.deepEqual(read('verified')?.['findings'], [])
    return read('found')
  }

  for (const pool of ['pool', 'disk-mounted/pool']) {
    test(`a finished image exists and is whole (${pool})`, async () => {
      const found = await lose(`built-${pool.replace('/', '-')}`, pool, '', '')
      assert.deepEqual(found?.['findings'], [])
    })
  }

  test('during a replacement, there is a whole image, or the next build puts one there', async () => {
    for (let round = 0; round < rounds; round++) {
      const delay = (0.4 + 0.3 * round).toFixed(1)
      const found = await lose(`cut-${round}`, 'disk-mounted/pool', first.toplevel, delay)
      if (found) assert.deepEqual(found['findings'], [], `after ${delay} s`)
    }
  })
})

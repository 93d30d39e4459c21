// The folder where a build makes an image: beside the image's place, on any disk.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { openStaging } from '../../src/image/staging.ts'
import { mounted } from '../support/namespace.ts'
import { assertFailed, netimage } from '../support/netimage.ts'
import { inventLargeSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const fresh = freshNames(temporaryDirectory())
const noWarning = (message: string) => assert.fail(message)

test('a name with the special signs of String.replace is not changed', async () => {
  const parent = fresh()
  const image = join(parent, "a$$b$&c$'")
  const staging = await openStaging(image, false, noWarning)
  const [name = ''] = readdirSync(parent)
  assert.ok(name.startsWith(".a$$b$&c$'.netimage-"), name)
  staging.close()
  assert.deepEqual(readdirSync(parent), [])
})

test('everybody may read the directories above the image, with any umask', async () => {
  const umask = process.umask(0o077)
  try {
    const parent = fresh()
    const staging = await openStaging(join(parent, 'a/b/image'), false, noWarning)
    staging.close()
    for (const path of [parent, join(parent, 'a'), join(parent, 'a/b')]) {
      assert.equal(statSync(path).mode & 0o777, 0o755, path)
    }
  } finally {
    process.umask(umask)
  }
})

suite('on a disk that ignores the case of names', () => {
  const key = makeKey('case-1')
  const system = inventLargeSystem('case', { paths: 2, bytes: 1000, keys: [key] })
  let workspace: Workspace
  before(() => {
    workspace = makeWorkspace('case')
    writeCache(workspace.path('cache'), system.all)
    mkdirSync(workspace.path('disk'))
  })
  after(() => workspace.remove())

  /** exFAT keeps the case of names but ignores it, like APFS and NTFS. */
  async function build(image: string, pool: string) {
    const script = `
      truncate -s 8M "$1.exfat"
      mkfs.exfat "$1.exfat" >/dev/null
      device=$(losetup --find --show "$1.exfat")
      trap 'umount "$directory"; losetup -d "$device"' EXIT
      mount.exfat-fuse "$device" "$1" >/dev/null 2>&1
      directory=$1
      status=0
      shift
      "$@" || status=$?
      find "$directory" >&2
      exit $status
    `
    const through = [...mounted(''), 'sh', '-euc', script, 'sh', workspace.path('disk')]
    const args = ['build', system.toplevel, '--from', `file://${workspace.path('cache')}`]
    const places = ['-o', image, '--pool', pool, '--trusted-public-keys', key.publicKey]
    return await netimage([...args, ...places, '--json', '--quiet'], { through })
  }

  test('a build does not fill the pool', async () => {
    const pool = workspace.path('disk/pool')
    const run = await build(workspace.image, pool)
    assert.equal(run.status, 1, run.stderr)
    const { hint } = assertFailed(run, 'file-system', { file: pool })
    assert.match(hint ?? '', /--pool/)
    assert.match(run.stderr, /disk\/pool\/trees$/m)
    assert.doesNotMatch(run.stderr, /disk\/pool\/trees\/|disk\/pool\/scratch\//)
  })

  test('a build does not begin an image', async () => {
    const run = await build(workspace.path('disk/image'), workspace.pool)
    assert.equal(run.status, 1, run.stderr)
    const { hint } = assertFailed(run, 'file-system')
    assert.match(hint ?? '', /-o/)
    assert.doesNotMatch(run.stderr, /disk\/.*\/image/)
    assert.ok(!existsSync(workspace.image))
  })
})

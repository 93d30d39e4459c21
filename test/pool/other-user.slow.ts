// A pool and an image with files of another user. netimage does not trust these files and cannot
// remove them, but builds still succeed.

import assert from 'node:assert/strict'
import { appendFileSync, chmodSync, cpSync, existsSync, mkdirSync } from 'node:fs'
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { buildNetImage, collectGarbage, verifyImage } from '../../src/index.ts'
import { parseHash } from '../../src/nix/hash.ts'
import { toStorePath } from '../../src/nix/store-path.ts'
import { openPool, type Pool } from '../../src/pool/pool.ts'
import { ordinaryUser } from '../support/namespace.ts'
import { failureOf } from '../support/netimage.ts'
import { netimageAsUser } from '../support/ordinary-user.ts'
import { runProgram } from '../support/real-nix.ts'
import { inventLargeSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const key = makeKey('other-user-1')
const system = inventLargeSystem('other', { paths: 5, bytes: 20_000, keys: [key] })
const large = system.all.find(({ path }) => path.endsWith('-content-2'))
assert.ok(large)

let workspace: Workspace
let count = 0
before(() => {
  workspace = makeWorkspace('other-user')
  chmodSync(workspace.directory, 0o755)
  writeCache(workspace.path('cache'), system.all)
})
after(() => workspace.remove())

/** A home of the user, with a pool and an image of that user. */
async function makeHome() {
  const home = workspace.path(`home-${count++}`)
  const [pool, image] = [join(home, 'pool'), join(home, 'image')]
  const run = (args: string[]) =>
    netimageAsUser(args, { place: workspace.path('repository'), home })
  const build = (...more: string[]) =>
    run([
      ...['build', system.toplevel, '--from', `file://${workspace.path('cache')}`, '-o', image],
      ...['--trusted-public-keys', key.publicKey, '--pool', pool, ...more],
    ])
  const entries = () => readdirSync(join(pool, 'trees')).map((name) => join(pool, 'trees', name))
  const entry = () => entries().find((path) => large?.narHash.endsWith(path.slice(-52))) ?? ''
  await runProgram('cp', ['-a', await (firstHome ??= buildFirst()), home])
  return { home, pool, image, run, build, entry }
}

let firstHome: Promise<string> | undefined

async function buildFirst(): Promise<string> {
  const home = workspace.path('home')
  await buildNetImage({
    system: system.toplevel,
    from: [`file://${workspace.path('cache')}`],
    trustedPublicKeys: [key.publicKey],
    pool: join(home, 'pool'),
    output: join(home, 'image'),
  })
  const { uid, gid } = ordinaryUser
  await runProgram('chown', ['-R', `${uid}:${gid}`, home])
  return home
}

async function assertWhole(image: string): Promise<void> {
  assert.deepEqual((await verifyImage({ image })).findings, [])
}

async function giveToRoot(path: string): Promise<void> {
  await runProgram('chown', ['-R', '0:0', path])
}

const isRoot = process.geteuid?.() === 0

suite('files of another user', { concurrency: 2 }, () => {
  if (!isRoot) return

  test('in an image: the image is replaced, again and again', async () => {
    const { home, image, build } = await makeHome()
    const root = readdirSync(join(image, 'net-image')).find((name) => name !== 'boot') ?? ''
    // As a machine makes them over NFS with no_root_squash.
    const theirs = join(image, 'net-image', root, 'var/lib')
    mkdirSync(theirs, { recursive: true })
    writeFileSync(join(theirs, 'file'), '')
    for (let round = 0; round < 2; round++) {
      const { status, stderr } = await build('--force')
      assert.equal(status, 0, stderr)
      const [left = '', ...more] = readdirSync(home).filter((name) => name.startsWith('.image'))
      assert.deepEqual(more, [])
      const warnings = stderr.split('\n').filter((line) => line.startsWith('warning: '))
      assert.equal(warnings.length, 1, stderr)
      assert.ok(warnings[0]?.endsWith(`sudo rm -rf ${join(home, left)}`), stderr)
      // All other files of the old image are gone.
      const rest = readdirSync(join(home, left), { recursive: true, encoding: 'utf8' })
      const old = `old/net-image/${root}`
      const expected = [old, `${old}/var`, `${old}/var/lib`, `${old}/var/lib/file`]
      assert.deepEqual(new Set(rest), new Set(['lock', 'old', 'old/net-image', ...expected]))
      await assertWhole(image)
    }
  })

  test('beside the image, left by their build: a warning, and they stay', async () => {
    const { home, image, build } = await makeHome()
    const left = join(home, '.image.netimage-abc123')
    mkdirSync(join(left, 'image'), { recursive: true })
    writeFileSync(join(left, 'lock'), '')
    writeFileSync(join(left, 'image/file'), '')
    const { status, stderr } = await build('--force')
    assert.equal(status, 0, stderr)
    assert.ok(stderr.includes(`sudo rm -rf ${left}`), stderr)
    await assertWhole(image)
  })

  test('in the pool, left by their build: a warning, and they stay', async () => {
    const { pool, run, build } = await makeHome()
    const lease = '1700000000000-1-00000000'
    mkdirSync(join(pool, 'scratch', lease, '0/tree/directory'), { recursive: true })
    writeFileSync(join(pool, 'scratch', lease, '0/tree/directory/file'), '')
    writeFileSync(join(pool, 'leases', lease), '')
    for (const again of [() => build('--force'), () => run(['gc', '--pool', pool])]) {
      const { status, stderr } = await again()
      assert.equal(status, 0, stderr)
      const warnings = stderr.split('\n').filter((line) => line.startsWith('warning: '))
      assert.equal(warnings.length, 1, stderr)
      assert.match(warnings[0] ?? '', /sudo rm -rf \S+\/scratch\/removed-[0-9a-f]+$/)
    }
    assert.deepEqual(readdirSync(join(pool, 'leases')), [])
  })

  test('in old entries: they stay, and other garbage is collected', async () => {
    const { pool, run, entry } = await makeHome()
    await giveToRoot(entry())
    const kept = entry()
    const { status, stdout, stderr } = await run(['gc', '--pool', pool, '--keep-days', '0'])
    assert.equal(status, 0, stderr)
    assert.match(stdout, /kept 1$/m)
    assert.ok(stderr.includes(`sudo rm -rf ${kept}`), stderr)
    assert.ok(existsSync(kept))
  })

  test('in a whole entry: the entry is hashed and then used', async () => {
    const { image, build, entry } = await makeHome()
    await giveToRoot(entry())
    const { status, stderr } = await build('--force')
    assert.equal(status, 0, stderr)
    assert.match(stderr, /^checked 1 path of the pool once more/m)
    assert.doesNotMatch(stderr, /unpacked/)
    await assertWhole(image)
  })

  test('in an entry that root uses: the entry is hashed first', async () => {
    const { pool, image, entry } = await makeHome()
    const tasks: string[] = []
    appendFileSync(join(entry(), 'tree/noise'), 'more')
    await buildNetImage({
      ...{ system: system.toplevel, pool, output: `${image}-2` },
      from: [`file://${workspace.path('cache')}`],
      trustedPublicKeys: [key.publicKey],
      progress: {
        begin(what) {
          tasks.push(what)
          return { update: () => undefined, end: () => undefined }
        },
        warn: () => undefined,
      },
    })
    assert.ok(tasks.includes('checking the pool'), tasks.join())
    await assertWhole(`${image}-2`)
  })

  test('in an entry that was hashed: the same build does not hash it again', async () => {
    const { pool: directory, entry } = await makeHome()
    assert.ok(large)
    const narHash = parseHash(large.narHash)
    const path = toStorePath(large.path)
    assert.ok(narHash && path)
    const info = { path, narHash, narSize: large.narSize, references: [], signatures: [] }
    const claimIn = async (pool: Pool) => {
      const { present, doubtful } = await pool.claim([info])
      for (const claimed of doubtful) pool.confirm(claimed)
      return [present.length, doubtful.length]
    }
    for (const round of [1, 2]) {
      const pool = await openPool(directory, () => undefined)
      assert.equal(pool.entryPath(info), entry())
      assert.deepEqual(await claimIn(pool), [0, 1], `build ${round}`)
      assert.deepEqual(await claimIn(pool), [1, 0], `build ${round}`)
      pool.close()
    }
  })

  const damages: Record<string, (entry: string) => void> = {
    changed: (entry) => appendFileSync(join(entry, 'tree/noise'), 'more'),
    unreadable: (entry) => chmodSync(entry, 0o700),
  }
  for (const [how, damage] of Object.entries(damages)) {
    test(`in an entry that is ${how}: no image uses the entry`, async () => {
      const { home, image, build, entry } = await makeHome()
      rmSync(image, { recursive: true })
      await giveToRoot(entry())
      damage(entry())
      const failed = await build('--json')
      assert.equal(failed.status, 1, failed.stderr)
      const { message, hint } = failureOf(failed)
      assert.match(message, /could not remove the unusable entry \S+ from the pool/)
      assert.ok(hint?.endsWith(`sudo rm -rf ${entry()}`), hint)
      assert.deepEqual(readdirSync(home).toSorted(), ['pool'])
    })
  }
})

suite('an entry that appears while its path is unpacked', () => {
  /** @param plant makes the entry after the build has found that it is missing */
  async function buildBeside(plant: (entry: string, whole: string) => void) {
    const own = workspace.path(`race-${count++}`)
    const pool = join(own, 'pool')
    mkdirSync(own)
    const request = {
      system: system.toplevel,
      pool,
      from: [`file://${workspace.path('cache')}`],
      trustedPublicKeys: [key.publicKey],
    }
    await buildNetImage({ ...request, output: join(own, 'first') })
    const names = readdirSync(join(pool, 'trees'))
    const entry = join(pool, 'trees', names.find((name) => large?.narHash.endsWith(name)) ?? '')
    const whole = join(own, 'whole')
    renameSync(entry, whole)
    const progress = {
      begin(what: string) {
        if (what === 'unpacking') plant(entry, whole)
        return { update: () => undefined, end: () => undefined }
      },
      warn: () => undefined,
    }
    await buildNetImage({ ...request, output: join(own, 'second'), progress })
    await assertWhole(join(own, 'second'))
    assert.deepEqual(readdirSync(join(pool, 'scratch')), [])
    return entry
  }

  test('is used if it is whole', async () => {
    const entry = await buildBeside((entry, whole) => {
      cpSync(whole, entry, { recursive: true, preserveTimestamps: true })
      writeFileSync(join(entry, 'mark'), '')
    })
    assert.ok(existsSync(join(entry, 'mark')))
  })

  test('is replaced if it is not', async () => {
    const entry = await buildBeside((entry, whole) => {
      cpSync(whole, entry, { recursive: true, preserveTimestamps: true })
      chmodSync(join(entry, 'tree/noise'), 0o644)
      appendFileSync(join(entry, 'tree/noise'), 'more')
      chmodSync(join(entry, 'tree/noise'), 0o444)
      writeFileSync(join(entry, 'mark'), '')
    })
    assert.ok(!existsSync(join(entry, 'mark')))
  })

  test('is replaced if it is not an entry', async () => {
    await buildBeside((entry) => {
      mkdirSync(entry)
      writeFileSync(join(entry, 'mark'), '')
    })
  })
})

test('a wrong number of days removes nothing', async () => {
  const own = workspace.path(`gc-${count++}`)
  const entry = join(own, 'trees/entry')
  mkdirSync(entry, { recursive: true })
  for (const days of [Number.NaN, -1]) {
    await assert.rejects(collectGarbage(own, days), { code: 'bad-option' })
  }
  assert.ok(existsSync(entry))
})

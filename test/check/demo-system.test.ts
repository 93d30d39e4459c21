// Checks the demo system, which real Nix has built, on the command line.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import {
  buildDemoSystem,
  type DemoSystem,
  type DemoSystemOptions,
} from '../../demo/system/build.ts'
import { buildNetImage } from '../../src/index.ts'
import { cacheDirectory } from '../e2e/support/cache.ts'
import { failureOf, netimage } from '../support/netimage.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const pool = join(directory, 'pool')
const rootDevice = '10.66.0.1:/srv/demo'

async function buildDemo(options: Partial<DemoSystemOptions> = {}): Promise<DemoSystem> {
  return await buildDemoSystem({
    cacheDirectory: cacheDirectory('demo-downloads'),
    worldDirectory: cacheDirectory('demo-nix'),
    rootDevice,
    ...options,
  })
}

const checkSchema = v.strictObject({
  kind: v.picklist(['system', 'image']),
  toplevel: v.string(),
  findings: v.array(
    v.strictObject({
      rule: v.string(),
      level: v.picklist(['error', 'warning', 'note']),
      message: v.string(),
      fix: v.string(),
      path: v.optional(v.string()),
    }),
  ),
})

async function check(...args: string[]) {
  const run = await netimage(['check', ...args, '--json', '--pool', pool])
  const { findings, ...rest } = v.parse(checkSchema, JSON.parse(run.stdout))
  const hasErrors = findings.some(({ level }) => level === 'error')
  assert.equal(run.status, hasErrors ? 1 : 0, run.stderr)
  return { findings, rules: findings.map(({ rule }) => rule), ...rest }
}

const access = ({ toplevel, storeRoot }: DemoSystem) => [
  ...[toplevel, '--from', storeRoot, '--no-check-sigs'],
]

suite('the demo system', () => {
  for (const system of ['x86_64-linux', 'aarch64-linux'] as const) {
    test(`for ${system} has no findings`, async () => {
      const demo = await buildDemo({ system })
      const { kind, toplevel, findings } = await check(...access(demo))
      assert.deepEqual(findings, [])
      assert.deepEqual([kind, toplevel], ['system', demo.toplevel])
    })
  }

  test('is checked against --nfs-root', async () => {
    const demo = await buildDemo()
    assert.deepEqual((await check(...access(demo), '--nfs-root', `${rootDevice},v3`)).rules, [])
    const { rules } = await check(...access(demo), '--nfs-root', '10.66.0.1:/srv/other,v3')
    assert.deepEqual(rules, ['root-mismatch'])
  })

  test('with ,v3 in its device', async () => {
    const demo = await buildDemo({ rootDevice: `${rootDevice},v3` })
    const { rules } = await check(...access(demo), '--nfs-root', `${rootDevice},v3`)
    assert.deepEqual(rules, ['nfs-options-in-device'])
  })

  test('without nolock, which version 4 does not need', async () => {
    const locking = await buildDemo({ rootOptions: 'vers=3,proto=tcp' })
    assert.deepEqual((await check(...access(locking))).rules, ['nfs-lock'])
    const version4 = await buildDemo({ rootOptions: 'vers=4.2' })
    assert.deepEqual((await check(...access(version4))).rules, [])
  })
})

suite('an image of the demo system', () => {
  const image = join(directory, 'image')
  const copy = join(directory, 'copy')

  before(async () => {
    const demo = await buildDemo()
    await buildNetImage({
      system: demo.toplevel,
      from: [demo.storeRoot],
      checkSignatures: false,
      pool,
      output: image,
      options: {
        nfsRoot: `${rootDevice},v3`,
        populateRootCommands:
          'mkdir -p files/etc/ssh; echo key > files/etc/ssh/ssh_host_rsa_key; echo uninitialized > files/etc/machine-id',
      },
    })
  })

  test('is checked with its nfsRoot, boot tree and root tree', async () => {
    const { kind, rules } = await check(image)
    assert.deepEqual([kind, rules], ['image', ['host-keys-baked-in']])
    const other = await check(image, '--nfs-root', '10.66.0.1:/x')
    assert.deepEqual(other.rules, ['root-mismatch', 'host-keys-baked-in'])
  })

  test('rules are silenced by their names', async () => {
    assert.deepEqual((await check(image, '--silence', 'host-keys-baked-in')).rules, [])
    const run = await netimage(['check', image, '--silence', 'no-such-rule', '--json'])
    assert.equal(run.status, 2)
    const { code, hint } = failureOf(run)
    assert.equal(code, 'bad-option')
    assert.match(hint ?? '', /root-not-nfs, .*no-registration/)
  })

  test('gives findings sorted by level, each with a fix', async () => {
    const run = await netimage(['check', image, '--nfs-root', '10.66.0.1:/x', '--quiet'])
    assert.equal(run.status, 1)
    assert.match(
      run.stdout,
      /^1 error\n\n {2}the machine mounts .* \[root-mismatch\]\n(?: {2}in .*\n)?(?: {6}.*\n)+\n1 warning\n\n {2}\/etc\/ssh/,
    )
    const silent = await netimage(['check', image, '--silence', 'host-keys-baked-in'])
    assert.equal(silent.status, 0)
    assert.match(silent.stdout, /^nothing was found/)
  })

  test('without its store is checked as far as possible', async () => {
    cpSync(image, copy, { recursive: true, verbatimSymlinks: true, mode: 0 })
    rmSync(join(copy, 'net-image/nixos-net-image-25.11.20261122.demo-x86_64-linux'), {
      recursive: true,
    })
    const run = await netimage(['check', copy])
    assert.match(run.stderr, /what is in its store is not checked/)
    assert.match(run.stdout, /host-keys-baked-in/)
    assert.equal(run.status, 0)
  })
})

test('a path that is neither a system nor an image', async () => {
  const nothing = join(directory, 'nothing')
  mkdirSync(nothing)
  writeFileSync(join(nothing, 'file'), '')
  const run = await netimage(['check', nothing, '--json', '--pool', pool])
  assert.equal(run.status, 3)
  assert.equal(failureOf(run).code, 'not-a-system')
})

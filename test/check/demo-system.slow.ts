// Checks the demo system, which real Nix has built, mostly in this process.

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
import { check as checkSubject, type CheckRequest } from '../../src/image/check-subject.ts'
import { buildNetImage } from '../../src/index.ts'
import { silentProgress } from '../../src/progress.ts'
import { cacheDirectory } from '../e2e/support/cache.ts'
import { failureOf, netimage } from '../support/netimage.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const pool = join(directory, 'pool')
const rootDevice = '10.66.0.1:/srv/demo'

/** The system that most tests check: a build takes Nix seconds, even if it is built already. */
let shared: Promise<DemoSystem> | undefined
const sharedDemo = () => (shared ??= buildDemo())

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

async function check(subject: DemoSystem | string, request: Partial<CheckRequest> = {}) {
  const places =
    typeof subject === 'string'
      ? { subject }
      : { subject: subject.toplevel, from: [subject.storeRoot], checkSignatures: false }
  const result = await checkSubject({ ...places, pool, ...request })
  return { ...result, rules: result.findings.map(({ rule }) => rule) }
}

suite('the demo system', () => {
  for (const system of ['x86_64-linux', 'aarch64-linux'] as const) {
    test(`for ${system} has no findings`, async () => {
      const demo = system === 'x86_64-linux' ? await sharedDemo() : await buildDemo({ system })
      const { kind, toplevel, findings } = await check(demo)
      assert.deepEqual(findings, [])
      assert.deepEqual([kind, toplevel], ['system', demo.toplevel])
    })
  }

  test('is checked against nfsRoot, as a command, too', async () => {
    const demo = await sharedDemo()
    assert.deepEqual((await check(demo, { nfsRoot: `${rootDevice},v3` })).rules, [])
    const run = await netimage([
      ...['check', demo.toplevel, '--from', demo.storeRoot, '--no-check-sigs', '--json'],
      ...['--pool', pool, '--nfs-root', '10.66.0.1:/srv/other,v3'],
    ])
    assert.equal(run.status, 1, run.stderr)
    const { kind, toplevel, findings } = v.parse(checkSchema, JSON.parse(run.stdout))
    assert.deepEqual([kind, toplevel], ['system', demo.toplevel])
    assert.deepEqual(
      findings.map(({ rule }) => rule),
      ['root-mismatch'],
    )
  })
})

suite('an image of the demo system', () => {
  const image = join(directory, 'image')
  const copy = join(directory, 'copy')

  before(async () => {
    const demo = await sharedDemo()
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
    const other = await check(image, { nfsRoot: '10.66.0.1:/x' })
    assert.deepEqual(other.rules, ['root-mismatch', 'host-keys-baked-in'])
  })

  test('rules are silenced by their names', async () => {
    assert.deepEqual((await check(image, { silenced: ['host-keys-baked-in'] })).rules, [])
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
    const warnings: string[] = []
    const progress = { ...silentProgress, warn: (message: string) => warnings.push(message) }
    assert.deepEqual((await check(copy, { progress })).rules, ['host-keys-baked-in'])
    assert.match(warnings.join(), /what is in its store is not checked/)
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

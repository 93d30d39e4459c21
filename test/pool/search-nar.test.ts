// Secrets are found while a tree is unpacked, and the record of them saves the next search.

import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { buildNetImage } from '../../src/image/build.ts'
import type { BuildRequest } from '../../src/image/request.ts'
import { createNarParser } from '../../src/nix/nar/parse.ts'
import { parseEntry } from '../../src/pool/entry.ts'
import { searchNar } from '../../src/pool/search-nar.ts'
import type { Progress } from '../../src/progress.ts'
import type { TreeSecret } from '../../src/secrets.ts'
import { cachedPath, inventPath, inventSystem, makeKey } from '../support/synthetic.ts'
import { narOf, writeCache, type Tree } from '../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const pem = generateKeyPairSync('ed25519')
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString()
const secret: Tree = { file: pem }

const key = makeKey('secrets-1')
const tree = inventPath('config')
const inTree: Tree = {
  directory: {
    'a.key': secret,
    etc: { directory: { 'b.key': secret, ssh: { directory: { ssh_host_rsa_key: secret } } } },
    'large.key': { file: pem + 'x'.repeat(2 ** 16) },
    link: { link: 'a.key' },
    share: { directory: { doc: { directory: { deep: { directory: { 'c.key': secret } } } } } },
    'z.key': secret,
  },
}
const file = inventPath('tls.key')
/** The tree has the same NAR as `tree`, but its name says that it has been published. */
const published = inventPath('examples')
const secrets = new Set([
  `${tree}/a.key`,
  `${tree}/etc/b.key`,
  `${tree}/z.key`,
  file,
  `${tree}/etc/ssh/ssh_host_rsa_key`,
])

let workspace: Workspace
const system = inventSystem('secrets', [tree, file, published], [key])
before(() => {
  workspace = makeWorkspace('search-nar')
  writeCache(join(workspace.directory, 'cache'), [
    system.toplevel,
    system.kernel,
    cachedPath(tree, inTree, { keys: [key] }),
    cachedPath(file, secret, { keys: [key] }),
    cachedPath(published, inTree, { keys: [key] }),
  ])
})
after(() => workspace.remove())

/** The paths of the secrets that a build finds. */
async function found(
  pool: string,
  more: Partial<BuildRequest> = {},
): Promise<Set<string | undefined>> {
  const { findings } = await buildNetImage({
    system: system.toplevel.path,
    output: workspace.image,
    force: true,
    pool,
    from: [`file://${join(workspace.directory, 'cache')}`],
    trustedPublicKeys: [key.publicKey],
    ...more,
  })
  return new Set(findings.filter(({ rule }) => rules.includes(rule)).map(({ path }) => path))
}

const rules = ['secrets-in-store', 'host-keys-baked-in']

/** The record of the entry that `tree` and `published` share. */
function record(pool: string): { file: string; text: string } {
  for (const name of readdirSync(join(pool, 'trees'))) {
    const file = join(pool, 'trees', name, 'entry.json')
    if (existsSync(join(pool, 'trees', name, 'tree', 'z.key'))) {
      return { file, text: readFileSync(file, 'utf8') }
    }
  }
  throw new Error('the tree is not in the pool')
}

/** Like the record, but it says that the first secret is elsewhere. */
const changed = (text: string) => text.replace('"a.key"', '"elsewhere"')
const elsewhere = new Set([...secrets].map((path) => path.replace(/a\.key$/, 'elsewhere')))

/** The secrets that a search finds in the NAR of a tree. */
function searched(root: Tree, chunkBytes: number): TreeSecret[] | undefined {
  const ignore = () => undefined
  const visitor = { directory: ignore, directoryEnd: ignore, symlink: ignore, file: ignore }
  const search = searchNar({ ...visitor, data: ignore, fileEnd: ignore })
  const parser = createNarParser(search)
  const nar = narOf(root)
  for (let at = 0; at < nar.length; at += chunkBytes) {
    parser.write(nar.subarray(at, at + chunkBytes))
  }
  parser.end()
  return search.secrets()
}

suite('the search of a NAR', () => {
  for (const chunkBytes of [7, 100, 2 ** 20]) {
    test(`in chunks of ${chunkBytes} bytes`, () => {
      const paths = ['a.key', 'etc/b.key', 'etc/ssh/ssh_host_rsa_key', 'z.key']
      const kind = 'private key'
      assert.deepEqual(
        searched(inTree, chunkBytes),
        paths.map((path) => ({ path, kind })),
      )
    })
  }

  test('tells nothing of a file, whose name it does not know', () => {
    assert.equal(searched(secret, 100), undefined)
  })

  test('tells nothing of more secrets than a record keeps', () => {
    const keys = (count: number): Tree => ({
      directory: Object.fromEntries(
        Array.from({ length: count }, (_, at) => [`${at}`.padStart(3, '0'), secret]),
      ),
    })
    assert.equal(searched(keys(100), 1000)?.length, 100)
    assert.equal(searched(keys(101), 1000), undefined)
  })
})

suite('secrets of a tree', () => {
  test('are found while it is unpacked, and then known', async () => {
    const pool = join(workspace.directory, 'unpacked')
    const breakOff = new AbortController()
    const progress: Progress = {
      begin(what) {
        // Long before the image is checked.
        if (what === 'placing the closure') breakOff.abort()
        return { update: () => undefined, end: () => undefined }
      },
      warn: () => undefined,
    }
    const broken = found(pool, { progress, signal: breakOff.signal })
    await assert.rejects(broken, { code: 'interrupted' })
    const { file, text } = record(pool)
    assert.notEqual(changed(text), text)
    writeFileSync(file, changed(text))
    assert.deepEqual(await found(pool), elsewhere)
  })

  test('are searched for if the record has none of them, or those of other rules', async () => {
    const pool = join(workspace.directory, 'searched')
    assert.deepEqual(await found(pool, { silenced: rules }), new Set())
    const { text: without } = record(pool)
    assert.equal(changed(without), without)
    assert.deepEqual(await found(pool), secrets)
    // The search left a record.
    const { file, text } = record(pool)
    writeFileSync(file, changed(text))
    assert.deepEqual(await found(pool), elsewhere)
    const older = changed(text).replace(/"rules":"[^"]*"/, '"rules":"older"')
    writeFileSync(file, older)
    assert.deepEqual(await found(pool), secrets)
    assert.equal(parseEntry(text)?.secrets?.length, 4)
    const unknown = text.replace('"private key"', '"of an unknown kind"')
    for (const broken of [older, unknown, text.replace('"secrets":[', '"secrets":[null,')]) {
      assert.notEqual(broken, text)
      assert.equal(parseEntry(broken)?.secrets, undefined, broken)
    }
  })

  test('stay known after the machine has started again', async () => {
    const pool = join(workspace.directory, 'restarted')
    await found(pool)
    const { file, text } = record(pool)
    writeFileSync(file, changed(text).replace(/"bootId":"[^"]*"/, '"bootId":"another"'))
    assert.deepEqual(await found(pool), elsewhere)
    assert.deepEqual(await found(pool), elsewhere)
  })
})

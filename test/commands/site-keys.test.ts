// The SSH host key of a machine, as a person asks for it.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { DatabaseSync } from 'node:sqlite'
import { suite, test } from 'node:test'
import { tryLock } from '../../src/lock.ts'
import { makeDirectory } from '../../src/make-directory.ts'
import { layerOf } from '../../src/roots/stored-layer.ts'
import { openSiteDatabase, openSiteToRead, siteFile } from '../../src/site/database.ts'
import { findProgram } from '../support/packages.ts'
import { find, makeImage, put, read, within } from '../roots/support/stored-layers.ts'
import { killAtEachStep } from '../site/support/kill-at-each-step.ts'
import { assertFailed, netimage, netimageJson } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const path = 'etc/ssh/ssh_host_ed25519_key'

function fresh() {
  const state = freshName()
  const place = [state, mac, makeImage(freshName())] as const
  const keys = (...args: string[]) => netimage(['site', 'keys', '--state', state, ...args])
  return { state, place, keys }
}

/** A key that the machine made itself. */
function ownKey(): { text: string; line: string } {
  const file = freshName()
  execFileSync(findProgram('ssh-keygen'), ['-q', '-t', 'ed25519', '-N', '', '-f', file])
  const [type, bytes] = readFileSync(`${file}.pub`, 'utf8').split(' ')
  return { text: readFileSync(file, 'utf8'), line: `${type} ${bytes} root@${mac}` }
}

function rowsIn(state: string) {
  const site = openSiteToRead(state) ?? assert.fail('there is no site')
  try {
    return { rows: site.log({}).rows, key: site.hostKeyOf(mac) }
  } finally {
    site.close()
  }
}

suite('netimage site keys', () => {
  test('makes a key once, and prints only its public half', async () => {
    const { state, keys } = fresh()
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    const first = await keys('pi1')
    assert.deepEqual([first.status, first.stderr], [0, ''])
    assert.match(first.stdout, /^ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI\S{43} root@pi1\n$/)
    const again = await keys('DC-A6-32-01-02-03', '--json')
    const fingerprint = execFileSync(findProgram('ssh-keygen'), ['-l', '-f', '-'], {
      ...{ input: first.stdout, encoding: 'utf8' },
    }).split(' ')[1]
    assert.deepEqual(JSON.parse(again.stdout), {
      ...{ machine: mac, name: 'pi1', publicKey: first.stdout.trimEnd(), fingerprint },
      isNew: false,
    })
    const { rows } = rowsIn(state)
    assert.equal(rows.length, 2)
    const who = { kind: 'person', name: userInfo().username }
    assert.partialDeepStrictEqual(rows[1], { machine: mac, who, entry: { fingerprint } })
    const { stdout } = await netimage(['site', 'log', '--state', state])
    assert.match(
      stdout,
      new RegExp(` {2}pi1: made its SSH host key ${fingerprint?.replaceAll('+', '\\+')}\n$`),
    )
    assert.doesNotMatch(stdout + again.stdout + JSON.stringify(rows), /PRIVATE/)
    assertFailed(await keys('--json', 'pi2'), 'unknown-machine')
  })

  test('prints the key that the machine made itself, and changes nothing', async () => {
    const { state, place, keys } = fresh()
    const { text, line } = ownKey()
    await within(place, (root) => put(root, path, text))
    assert.equal((await keys(mac)).stdout, `${line}\n`)
    const { rows, key } = rowsIn(state)
    assert.deepEqual([rows, key], [[], undefined])
    assert.equal(await within(place, (root) => read(root, path)), text)
  })

  test('makes one for a machine that has booted and has none, or an empty file', async () => {
    const { place, keys } = fresh()
    await within(place, (root) => put(root, path, ''))
    const { stdout } = await keys(mac)
    await within(place, (root) =>
      root.remove(find(root, 'etc/ssh') ?? 0, Buffer.from('ssh_host_ed25519_key')),
    )
    assert.equal((await keys(mac)).stdout, stdout)
  })

  test('prints what the machine has now, also if it has made another one since', async () => {
    const { place, keys } = fresh()
    const made = await keys(mac)
    const { text, line } = ownKey()
    await within(place, (root) => put(root, path, text))
    assert.equal((await keys(mac)).stdout, `${line}\n`)
    assert.notEqual(made.stdout, `${line}\n`)
  })

  test('tells what a machine has instead of a key', async () => {
    const { place, keys } = fresh()
    await within(place, (root) => put(root, path, `not a key\u001b[2J${'x'.repeat(100_000)}`))
    const { message } = assertFailed(await keys('--json', mac), 'bad-state', { file: `/${path}` })
    assert.doesNotMatch(message, /not a key/)
    await within(place, (root) => {
      const directory = find(root, 'etc/ssh') ?? assert.fail()
      root.remove(directory, Buffer.from('ssh_host_ed25519_key'))
      const link = { kind: 'symlink', mode: 0o777, uid: 0, gid: 0 } as const
      root.create(directory, Buffer.from('ssh_host_ed25519_key'), {
        ...{ ...link, target: Buffer.from('/etc/passwd') },
      })
    })
    assertFailed(await keys('--json', mac), 'bad-state', { file: `/${path}` })
  })

  test('does not look into a layer that is in use, but knows the key that it made', async () => {
    const { state, place, keys } = fresh()
    await within(place, () => {})
    const layer = layerOf(state, mac)
    makeDirectory(layer.directory)
    const lock = tryLock(layer.lock, 'exclusive')
    const { hint } = assertFailed(await keys('--json', mac), 'in-use')
    assert.match(hint ?? '', /ssh-keyscan/)
    lock?.release()
    const { stdout } = await keys(mac)
    const again = tryLock(layer.lock, 'exclusive')
    const run = await keys(mac)
    again?.release()
    assert.deepEqual([run.status, run.stdout], [0, stdout])
    assert.match(run.stderr, /runs: this is the key that the site made for it/)
  })

  test('does not show a broken row', async () => {
    const { state, keys } = fresh()
    await keys(mac)
    const database = new DatabaseSync(siteFile(state))
    database.exec("UPDATE host_keys SET private_key = 'secret ' || private_key || 'x'")
    database.exec("UPDATE host_keys SET private_key = replace(private_key, 'AAA', '')")
    database.close()
    const run = await keys('--json', mac)
    const { hint } = assertFailed(run, 'bad-state', { file: siteFile(state) })
    assert.match(hint ?? '', /DELETE FROM host_keys WHERE machine = 'dc:a6:32:01:02:03'/)
    assert.doesNotMatch(run.stdout + run.stderr, /secret|PRIVATE/)
  })
})

test('a command that is killed has made the key and its row, or none of them', () => {
  killAtEachStep({
    command: ['site', 'keys', mac],
    prepare() {
      const state = freshName()
      openSiteDatabase(state).close()
      return state
    },
    isDone(state, when) {
      const { rows, key } = rowsIn(state)
      assert.equal(rows.length, key ? 1 : 0, when)
      return key !== undefined
    },
  })
})

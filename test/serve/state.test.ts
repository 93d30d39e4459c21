// The state directory is for the server's user alone.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { handleKey, openState, waitForOldShards } from '../../src/serve/state.ts'
import { ordinaryUser } from '../support/namespace.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitFor } from '../support/waiting.ts'

const directory = temporaryDirectory()
chmodSync(directory, 0o755)
const freshName = freshNames(directory)
const modeOf = (path: string) => (lstatSync(path).mode & 0o777).toString(8)

test('a new one is closed to other users, whatever the umask is', () => {
  const state = freshName()
  const before = process.umask(0)
  try {
    openState(state)
    handleKey(state)
  } finally {
    process.umask(before)
  }
  assert.equal(modeOf(state), '700')
  for (const name of readdirSync(state)) assert.equal(modeOf(join(state, name)), '600', name)
})

test('an old one is closed to other users, with the files that they could read in it', () => {
  const state = freshName()
  mkdirSync(join(state, 'layers'), { recursive: true })
  chmodSync(state, 0o755)
  for (const name of ['boots.sqlite', 'layers/one.lock']) {
    writeFileSync(join(state, name), '', { mode: 0o644 })
  }
  openState(state)
  assert.equal(modeOf(state), '700')
  assert.equal(modeOf(join(state, 'boots.sqlite')), '600')
  // A user who can read a lock's file can keep a machine from its root.
  if (process.geteuid?.() !== 0) return
  const { uid, gid } = ordinaryUser
  const ids = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups']
  for (const name of ['boots.sqlite', 'layers/one.lock']) {
    const run = spawnSync('setpriv', [...ids, 'cat', join(state, name)], { encoding: 'utf8' })
    assert.match(run.stderr, /Permission denied/)
  }
})

test('a directory that is also for other things is refused, and stays open', () => {
  const [home, temporary] = [freshName(), freshName()]
  for (const each of [home, temporary]) mkdirSync(each)
  chmodSync(home, 0o755)
  writeFileSync(join(home, 'other'), '', { mode: 0o644 })
  // Even if an older netimage kept its state there.
  chmodSync(temporary, 0o1777)
  handleKey(temporary)
  for (const each of [home, temporary]) {
    const mode = modeOf(each)
    assert.throws(() => openState(each), { code: 'bad-option' })
    assert.equal(modeOf(each), mode)
  }
  assert.equal(modeOf(join(home, 'other')), '644')
  // The user has closed the directory, so other files in it do not matter.
  chmodSync(home, 0o700)
  openState(home)
  assert.equal(modeOf(join(home, 'other')), '644')
})

test('a new server waits for a process of one that was killed, and names it', async (context) => {
  const state = freshName()
  openState(state)
  const module = JSON.stringify(import.meta.resolve('../../src/serve/state.ts'))
  const holds = `globalThis.held = (await import(${module})).lockShard(process.argv[1]); console.log(); setInterval(() => {}, 1e6)`
  const busy = spawn(process.execPath, ['--input-type=module', '--eval', holds, state], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  context.after(() => busy.kill('SIGKILL'))
  await waitFor('it has the lock', once(busy.stdout, 'data'))
  await assert.rejects(waitForOldShards(state, undefined, 0), {
    code: 'in-use',
    message: new RegExp(`still use the state in .*: ${busy.pid}$`),
  })
  const waits = waitForOldShards(state, undefined, 15 * 60_000)
  busy.kill('SIGKILL')
  await waitFor('it waits no more', waits)
})

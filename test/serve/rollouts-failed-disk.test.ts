// The disk fails while a server asks machines to restart.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock, test } from 'node:test'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'

/** How many syncs fail from now on. Simulated: no real disk fails on demand. */
let failures = 0
const { fdatasync } = fs
mock.method(fs, 'fdatasync', (file: number, done: (error: Error | null) => void) => {
  if (failures === 0) return fdatasync(file, done)
  failures--
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
  process.nextTick(done, full)
})
syncBuiltinESMExports()
const { startRollouts } = await import('../../src/serve/rollouts.ts')
const { openSiteDatabase } = await import('../../src/site/database.ts')
const { openSite } = await import('../../src/site/site.ts')
const { begunRollout } = await import('./support/begun-rollout.ts')

const freshName = freshNames(temporaryDirectory())
const reboot = new Map([['pi1', { reboot: ['reboot'] }]])

/** A server that could not write down that the command begins. @param ran the commands that have run */
async function startOnFullDisk(ran: string[]) {
  const state = await begunRollout(freshName(), ['pi1'], reboot)
  const [told, errors]: [string[], string[]] = [[], []]
  failures = 1
  const rollouts = await startRollouts({
    state,
    onTold: ({ says }) => told.push(says),
    onError: ({ code }) => errors.push(code),
    async restart([name = '']) {
      ran.push(name)
      return `has run ${name}`
    },
  })
  await waitUntil('the disk is full', () => errors.length > 0)
  return { state, told, errors, rollouts }
}

function commandOf(state: string): string | undefined {
  const database = openSiteDatabase(state)
  const { requests } = database.read.rollouts()
  database.close()
  return requests.get('pi1')?.command
}

test('a machine is asked to restart as soon as this can be written', async () => {
  const ran: string[] = []
  const { state, told, errors, rollouts } = await startOnFullDisk(ran)
  assert.deepEqual([ran, commandOf(state)], [[], 'begun'])
  await waitUntil('the command has ended', () => commandOf(state) === 'ended')
  await rollouts.close()
  assert.deepEqual(errors, ['disk-full'])
  assert.deepEqual(ran, ['reboot'])
  assert.deepEqual(told, ['asks it to restart', 'has run reboot'])
})

test('a machine that starts again before this can be written is not asked', async () => {
  const ran: string[] = []
  const { state, told, rollouts } = await startOnFullDisk(ran)
  const site = openSite({ state, at: 0, onTold: () => {}, onError: assert.ifError })
  await site.beginAttempt('pi1', 0)
  site.sign('pi1', { kind: 'asks' }, 0)
  site.close(0)
  await waitUntil('the request is taken back', () => told.length === 2)
  await rollouts.close()
  assert.deepEqual([ran, commandOf(state)], [[], 'ended'])
  assert.match(told[1] ?? '', /^has not asked it to restart, because it has started again/)
})

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'

import {
  createSessions,
  defaultLimits,
  type Session,
} from '../../../src/protocols/tftp/sessions.ts'
import type { TransferState } from '../../../src/protocols/tftp/transfer.ts'

let lastPort = 0

const unknown = (machine: string) => ({ machine, isKnown: false })
const known = (machine: string) => ({ machine, isKnown: true })

function createSession(machine: string, state: TransferState, progressed: number): Session {
  const ignore = () => {}
  const transfer = { acknowledged: 1, reason: undefined, receive: ignore, tick: ignore }
  return {
    ...{ ...unknown(machine), peer: { host: `address of ${machine}`, port: ++lastPort } },
    ...{ address: '', request: Buffer.alloc(0), file: 'kernel', blockSize: 512, isBegun: true },
    ...{ waiting: 0, isCheckDue: false },
    ...{ send: ignore, close: ignore, closeFile: ignore },
    transfer: { ...transfer, state, progressed, requestAgain: ignore },
  }
}

/** All places are taken by machines that go on with their transfers. */
function fill(ofGreedy: number) {
  const sessions = createSessions({ transfers: 20, transfersPerMachine: 15, transfersThatStay: 4 })
  const greedy = Array.from({ length: ofGreedy }, (_, index) =>
    createSession('greedy', 'sending', 9000 + ((index + 3) % ofGreedy)),
  )
  const others = Array.from({ length: 20 - ofGreedy }, (_, index) =>
    createSession(`machine ${index % 5}`, 'sending', 8000),
  )
  for (const session of [...greedy, ...others]) sessions.add(session)
  return { sessions, greedy, others }
}

suite('the places of transfers', () => {
  test('are enough for a thousand machines that boot at once', () => {
    const sessions = createSessions(defaultLimits)
    for (let index = 0; index < 1000; index++) {
      assert.equal(sessions.roomFor(unknown(`machine ${index}`), 0), 'free')
      sessions.add(createSession(`machine ${index}`, 'sending', 0))
    }
  })

  test('are for all addresses of a machine together', () => {
    const sessions = createSessions({ ...defaultLimits, transfersPerMachine: 2 })
    sessions.add(createSession('one', 'sending', 0))
    assert.equal(sessions.roomFor(unknown('one'), 1000), 'free')
    const other = createSession('one', 'sending', 0)
    sessions.add({ ...other, peer: { ...other.peer, host: 'another address' } })
    assert.equal(sessions.roomFor(unknown('one'), 1000), undefined)
    assert.equal(sessions.roomFor(unknown('other'), 1000), 'free')
  })

  test('are given to another machine by the one with the most, and its slowest transfer ends', () => {
    const { sessions, greedy } = fill(10)
    const given = sessions.roomFor(unknown('newcomer'), 10_000)
    assert.ok(typeof given === 'object')
    assert.equal(greedy.indexOf(given), 7)
    // A machine with several transfers waits like before.
    assert.equal(sessions.roomFor(unknown('greedy'), 10_000), undefined)
    sessions.delete(given)
    assert.equal(sessions.roomFor(unknown('newcomer'), 10_000), 'free')
  })

  test('are given up by no machine that has few, so that a forged address ends no boot', () => {
    const { sessions } = fill(4)
    assert.equal(sessions.roomFor(unknown('newcomer'), 10_000), undefined)
  })

  test('are given to known machines by the slowest of the others, which may all be one host', () => {
    const sessions = createSessions({
      transfers: 20,
      transfersPerMachine: 15,
      transfersThatStay: 4,
    })
    for (let number = 0; number < 20; number++) {
      const session = createSession(`machine ${number}`, 'sending', 9000 - number)
      sessions.add({ ...session, isKnown: number > 15 })
    }
    assert.equal(sessions.roomFor(unknown('newcomer'), 10_000), undefined)
    for (const machine of ['machine 15', 'machine 14', 'machine 13', 'machine 12']) {
      const given = sessions.roomFor(known('newcomer'), 10_000)
      assert.ok(typeof given === 'object')
      assert.equal(given.machine, machine)
      sessions.delete(given)
      sessions.add({ ...createSession('newcomer', 'sending', 9000), isKnown: true })
    }
    assert.equal(sessions.roomFor(known('newcomer'), 10_000), undefined)
  })

  test('are given up first by those who never answered, and by those who are stuck', () => {
    const { sessions, others } = fill(10)
    const [stuck, unanswered] = others
    assert.ok(stuck && unanswered)
    sessions.delete(stuck)
    sessions.add({ ...createSession('stuck', 'sending', 100), file: 'stuck' })
    const given = sessions.roomFor(unknown('newcomer'), 10_000)
    assert.equal(typeof given === 'object' && given.file, 'stuck')
    sessions.delete(unanswered)
    sessions.add({ ...createSession('unanswered', 'offered', 9999), file: 'unanswered' })
    const before = sessions.roomFor(unknown('newcomer'), 10_000)
    assert.equal(typeof before === 'object' && before.file, 'unanswered')
  })
})

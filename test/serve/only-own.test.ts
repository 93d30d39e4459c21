import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Gate } from '../../src/serve/gate.ts'
import { onlyOwn } from '../../src/serve/only-own.ts'

test('a shard begins no attempt of a machine of another shard', async () => {
  const entered: string[] = []
  const gate: Gate = {
    enter(machine) {
      entered.push(machine)
      return Promise.resolve(undefined)
    },
    comes: ({ machine }) => void entered.push(machine),
    now: () => undefined,
    lacksFile: () => {},
    hasAttempt: () => true,
    systems: () => [],
  }
  const own = onlyOwn(gate, (machine) => machine === 'own')
  const event = { kind: 'tftp', step: 'begin', file: 'kernel', bytes: 0 } as const
  await own.enter('own', event)
  await assert.rejects(own.enter('other', event), /another machine/)
  for (const machine of ['own', 'other']) own.comes({ machine, started: 0 }, event)
  assert.deepEqual(entered, ['own', 'own'])
  assert.equal(own.now('own'), undefined)
  assert.equal(own.now('other'), 'busy')
})

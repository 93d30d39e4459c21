import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { serialize, deserialize } from 'node:v8'
import type { Boot } from '../../src/boots/follow.ts'
import { parseFromShard, toPlain, type FromShard } from '../../src/serve/shard/from-shard.ts'
import { NetimageError } from '../../src/errors.ts'

const boot: Boot = {
  ...{ machine: '02:00:00:00:00:01', address: '127.0.0.2', started: 1, lastSign: 3, bytes: 5 },
  ...{ step: 'kernel', steps: { dhcp: 1, kernel: 2 }, sending: 1, asksToBoot: true, trouble: 'x' },
}
const file = { kind: 'http', step: 'fail', reason: 'x', bytes: 5, file: '/kernel' } as const
const details = { file: '/x', stores: ['a'], expected: 1, actual: 'b' }
const error = toPlain(new NetimageError('in-use', 'x', { hint: 'y', details }))

const said: FromShard[] = [
  { kind: 'ready', boots: [boot] },
  { kind: 'failed', error },
  { kind: 'error', error: toPlain(new NetimageError('internal', 'x')) },
  { kind: 'answer', id: 1, answer: Buffer.from('x') },
  { kind: 'seen', boot, event: file, at: 4, mayForget: false },
  { kind: 'operations', counts: { READ: 5, LOOKUP: 1 } },
  { kind: 'told', told: { machine: boot.machine, kind: 'good', generation: 1 } },
]

suite('a message of a shard', () => {
  test('is what the shard has said, also after it has gone from process to process', () => {
    for (const message of said) {
      const parsed = parseFromShard(deserialize(serialize(message)))
      assert.deepEqual(parsed, message)
      // People see the parts of an event in their order.
      assert.equal(JSON.stringify(parsed), JSON.stringify(message))
    }
  })

  test('that lacks any of its parts, or has another thing in its place, is refused', () => {
    for (const message of said) {
      for (const part of Object.keys(message)) {
        // An answer is read by the one who asked.
        if (part === 'answer') continue
        assert.throws(
          () => parseFromShard({ ...message, [part]: undefined }),
          `${part} is not there`,
        )
        assert.throws(
          () => parseFromShard({ ...message, [part]: [{}] }),
          `${part} is another thing`,
        )
      }
    }
    for (const message of [null, undefined, 'ready', 5, {}, { kind: 'start' }]) {
      assert.throws(() => parseFromShard(message))
    }
  })

  test('with an error of a code that nobody knows is refused', () => {
    for (const code of ['new', 'toString', 5]) {
      assert.throws(() => parseFromShard({ kind: 'error', error: { ...error, code } }))
    }
  })
})

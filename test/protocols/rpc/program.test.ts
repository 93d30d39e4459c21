import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { answerCall, type Call, type Program } from '../../../src/protocols/rpc/program.ts'
import { XdrError, XdrWriter } from '../../../src/protocols/rpc/xdr.ts'

/** A program that answers with the number in the arguments, and remembers its calls. */
function echo(): { program: Program; calls: Call[] } {
  const calls: Call[] = []
  const program: Program = {
    number: 7,
    versions: new Map([
      [
        3,
        [
          (call: Call, results: XdrWriter) => {
            calls.push(call)
            results.uint32(call.arguments.uint32())
            return undefined
          },
          undefined,
          () => {
            throw new Error('a defect')
          },
        ],
      ],
      [5, []],
    ]),
  }
  return { program, calls }
}

const words = (...numbers: number[]) => {
  const bytes = Buffer.alloc(4 * numbers.length)
  for (const [index, number] of numbers.entries()) bytes.writeUInt32BE(number, 4 * index)
  return bytes
}

const noAuth = [0, 0]
const call = (...rest: number[]) => words(0x1234, 0, 2, ...rest)

function ask(message: Buffer): { reply: string; calls: Call[]; defects: unknown[] } {
  const { program, calls } = echo()
  const defects: unknown[] = []
  const from = { address: '10.0.0.1', transport: 'tcp' } as const
  const writer = new XdrWriter(0)
  answerCall(message, from, [program], (defect) => defects.push(defect), writer)
  return {
    reply: writer.written().toString('hex').replaceAll(/.{8}/g, '$& ').trim(),
    calls,
    defects,
  }
}

const reply = (...rest: number[]) =>
  words(0x1234, 1, ...rest)
    .toString('hex')
    .replaceAll(/.{8}/g, '$& ')
    .trim()
const accepted = (...rest: number[]) => reply(0, 0, 0, ...rest)

suite('a call', () => {
  test('is answered with the same xid', () => {
    const { reply, calls } = ask(call(7, 3, 0, ...noAuth, ...noAuth, 99))
    assert.equal(reply, accepted(0, 99))
    assert.deepEqual(calls[0]?.credentials, { uid: 65534, gid: 65534, groups: [] })
  })

  test('has the credentials of its caller (AUTH_SYS)', () => {
    const name = [5, 0x686f7374, 0x31000000]
    const body = [1, ...name, 1000, 100, 2, 10, 20]
    const credentials = [1, body.length * 4, ...body]
    const { reply, calls } = ask(call(7, 3, 0, ...credentials, ...noAuth, 99))
    assert.equal(reply, accepted(0, 99))
    assert.deepEqual(calls[0]?.credentials, { uid: 1000, gid: 100, groups: [10, 20] })
  })

  test('for an unknown program, version or procedure gets an error', () => {
    assert.equal(ask(call(8, 3, 0, ...noAuth, ...noAuth)).reply, accepted(1))
    assert.equal(ask(call(7, 4, 0, ...noAuth, ...noAuth)).reply, accepted(2, 3, 5))
    assert.equal(ask(call(7, 3, 1, ...noAuth, ...noAuth)).reply, accepted(3))
    assert.equal(ask(call(7, 3, 9, ...noAuth, ...noAuth)).reply, accepted(3))
    assert.equal(ask(call(7, 3, 0xffffffff, ...noAuth, ...noAuth)).reply, accepted(3))
  })

  test('with malformed arguments gets an error without any results', () => {
    assert.equal(ask(call(7, 3, 0, ...noAuth, ...noAuth)).reply, accepted(4))
  })

  test('that causes a defect is answered, and the defect is reported', () => {
    const { reply, defects } = ask(call(7, 3, 2, ...noAuth, ...noAuth))
    assert.equal(reply, accepted(5))
    assert.match(String(defects[0]), /a defect/)
  })

  test('of another RPC version is denied', () => {
    assert.equal(ask(words(0x1234, 0, 3)).reply, reply(1, 0, 2, 2))
  })

  test('with credentials that are malformed or of another flavor is denied', () => {
    const denied = (status: number) => reply(1, 1, status)
    const tooManyGroups = [0, 0, 1, 1, 17, ...Array.from({ length: 17 }, () => 5)]
    const longName = [0, 256, ...Array.from({ length: 64 }, () => 0), 1, 1, 0]
    for (const body of [[], [0], tooManyGroups, longName, [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 3]]) {
      const credentials = [1, body.length * 4, ...body]
      assert.equal(ask(call(7, 3, 0, ...credentials, ...noAuth, 99)).reply, denied(1))
    }
    assert.equal(ask(call(7, 3, 0, 1, 404)).reply, denied(1))
    assert.equal(ask(call(7, 3, 0, 6, 4, 1, ...noAuth, 99)).reply, denied(2))
  })

  test('with the type of a reply is not answered', () => {
    assert.throws(() => ask(Buffer.alloc(0)), XdrError)
    assert.throws(() => ask(words(0x1234, 1, 0, 0, 0, 0)), XdrError)
  })

  test('of any bytes is answered or causes an XdrError', () => {
    const start = fc.constantFrom(
      Buffer.alloc(0),
      call(),
      call(7, 3, 0),
      call(7, 3, 0, 1),
      call(7, 3, 0, 1, 24),
    )
    const word = fc.oneof(fc.nat(20), fc.nat(0xffffffff)).map((number) => words(number))
    const rest = fc.array(fc.oneof(word, fc.uint8Array({ maxLength: 5 })), { maxLength: 20 })
    fc.assert(
      fc.property(start, rest, (start, rest) => {
        try {
          const { reply, defects } = ask(Buffer.concat([start, ...rest]))
          assert.ok(reply.length > 0)
          assert.ok(defects.every((defect) => String(defect) === 'Error: a defect'))
        } catch (error) {
          assert.ok(error instanceof XdrError)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { decode, encode, type Packet } from '../../../src/protocols/tftp/packet.ts'

const word = fc.nat(0xffff)
const text = fc
  .string({ maxLength: 40, unit: 'grapheme' })
  .filter((string) => !string.includes('\0'))
const plain = { noNullPrototype: true }
const options = fc.array(fc.record({ name: text, value: text }, plain), { maxLength: 4 })
const mode = fc.constantFrom('octet', 'netascii')
const request = fc.record({ file: text, mode, options }, plain)

const data = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes))
const packet: fc.Arbitrary<Packet> = fc.oneof(
  fc.record({ kind: fc.constantFrom('read', 'write'), request }, plain),
  fc.record({ kind: fc.constant('data'), block: word, data }, plain),
  fc.record({ kind: fc.constant('ack'), block: word }, plain),
  fc.record({ kind: fc.constant('error'), code: word, message: text }, plain),
  fc.record({ kind: fc.constant('oack'), options }, plain),
)

suite('packets of TFTP', () => {
  test('are the same after encoding and decoding', () => {
    fc.assert(
      fc.property(packet, (value) => {
        const bytes = encode(value)
        const isTooLong = (value.kind === 'read' || value.kind === 'write') && bytes.length > 512
        assert.deepEqual(decode(bytes), isTooLong ? undefined : value)
      }),
    )
  })

  test('can be any bytes: decoding never throws or reads behind the end', () => {
    const hostile = fc
      .tuple(fc.integer({ min: 0, max: 7 }), fc.uint8Array({ maxLength: 700 }))
      .map(([opcode, rest]) => Buffer.from([0, opcode, ...rest]))
    const cut = fc
      .tuple(packet, fc.nat(700))
      .map(([value, length]) => encode(value).subarray(0, length))
    fc.assert(
      fc.property(fc.oneof(hostile, cut), (bytes) => {
        const surrounded = Buffer.concat([bytes, Buffer.from('behind\0the\0end\0')])
        assert.deepEqual(decode(surrounded.subarray(0, bytes.length)), decode(Buffer.from(bytes)))
      }),
      { numRuns: 2000 },
    )
  })

  test('of the examples in RFC 2348 and RFC 7440 are decoded', () => {
    // [RFC 2348: "An example of a read request, using a blocksize of 1428 octets"]
    assert.deepEqual(decode(Buffer.from('\0\x01foobar\0octet\0blksize\x001428\0', 'latin1')), {
      kind: 'read',
      request: { file: 'foobar', mode: 'octet', options: [{ name: 'blksize', value: '1428' }] },
    })
    // [RFC 7440 §3: "An example of a read request with a windowsize of 16 blocks"]
    assert.deepEqual(decode(Buffer.from('\0\x01foobar\0octet\0windowsize\x0016\0', 'latin1')), {
      kind: 'read',
      request: { file: 'foobar', mode: 'octet', options: [{ name: 'windowsize', value: '16' }] },
    })
    assert.equal(
      encode({ kind: 'oack', options: [{ name: 'blksize', value: '1428' }] }).toString('latin1'),
      '\0\x06blksize\x001428\0',
    )
    assert.equal(encode({ kind: 'ack', block: 0x1234 }).toString('hex'), '00041234')
    assert.equal(
      encode({ kind: 'error', code: 1, message: 'File not found' }).toString('latin1'),
      '\0\x05\0\x01File not found\0',
    )
  })

  test('may have a mode in any case, and padding behind a request', () => {
    const padded = decode(Buffer.from('\0\x01a\0OcTeT\0tsize\x000\0\xff\xff', 'latin1'))
    assert.deepEqual(padded, {
      kind: 'read',
      request: { file: 'a', mode: 'octet', options: [{ name: 'tsize', value: '0' }] },
    })
  })

  test('that are a request without a mode are refused', () => {
    for (const bytes of ['\0\x01', '\0\x01\0', '\0\x01file', '\0\x01file\0', '\0\x01file\0octet']) {
      assert.equal(decode(Buffer.from(bytes, 'latin1')), undefined)
    }
  })
})

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { XdrError, XdrReader, XdrWriter } from '../../../src/protocols/rpc/xdr.ts'

function of<Kind extends string, Content>(kind: Kind, content: fc.Arbitrary<Content>) {
  return content.map((value) => ({ kind, value }))
}

/** Every kind of value. */
const value = fc.oneof(
  of('uint32', fc.nat(0xffffffff)),
  of('uint64', fc.maxSafeNat()),
  of('boolean', fc.boolean()),
  of('fixed', fc.uint8Array({ maxLength: 70 })),
  of('opaque', fc.uint8Array({ maxLength: 70 })),
)
type Value = typeof value extends fc.Arbitrary<infer Kind> ? Kind : never

function write(writer: XdrWriter, item: Value): void {
  if (item.kind === 'uint32') writer.uint32(item.value)
  else if (item.kind === 'uint64') writer.uint64(item.value)
  else if (item.kind === 'boolean') writer.boolean(item.value)
  else if (item.kind === 'fixed') writer.fixed(item.value)
  else writer.opaque(item.value)
}

function readLike(reader: XdrReader, item: Value): Value {
  if (item.kind === 'uint32') return { ...item, value: reader.uint32() }
  if (item.kind === 'uint64') return { ...item, value: reader.uint64() }
  if (item.kind === 'boolean') return { ...item, value: reader.boolean() }
  if (item.kind === 'fixed') {
    return { ...item, value: new Uint8Array(reader.fixed(item.value.length)) }
  }
  return { ...item, value: new Uint8Array(reader.opaque()) }
}

function written(items: readonly Value[]): Buffer {
  const writer = new XdrWriter(16)
  for (const item of items) write(writer, item)
  return Buffer.from(writer.written())
}

suite('XDR', () => {
  test('reads the written values again, in words of four bytes', () => {
    fc.assert(
      fc.property(fc.array(value), (items) => {
        const bytes = written(items)
        assert.equal(bytes.length % 4, 0)
        const reader = new XdrReader(bytes)
        assert.deepEqual(
          items.map((item) => readLike(reader, item)),
          items,
        )
        assert.equal(reader.position, bytes.length)
      }),
    )
  })

  test('throws an XdrError if the bytes are cut off anywhere', () => {
    fc.assert(
      fc.property(fc.array(value, { minLength: 1 }), fc.double({ max: 1, min: 0 }), (items, at) => {
        const bytes = written(items)
        const cut = Math.floor(bytes.length * at)
        if (cut === bytes.length) return
        const reader = new XdrReader(bytes.subarray(0, cut))
        assert.throws(() => items.map((item) => readLike(reader, item)), XdrError)
      }),
    )
  })

  test('encodes the example of RFC 4506, section 7', () => {
    const writer = new XdrWriter(0)
    writer.string('sillyprog')
    writer.uint32(2)
    writer.string('lisp')
    writer.string('john')
    writer.opaque(Buffer.from('(quit)'))
    assert.equal(
      writer.written().toString('hex'),
      '0000000973696c6c7970726f670000000000000200000004' +
        '6c697370000000046a6f686e00000006287175697429' +
        '0000',
    )
  })

  test('reads numbers that are too large as the largest safe integer', () => {
    const reader = new XdrReader(Buffer.from('ffffffffffffffff0020000000000000', 'hex'))
    assert.equal(reader.uint64(), Number.MAX_SAFE_INTEGER)
    assert.equal(reader.uint64(), Number.MAX_SAFE_INTEGER)
  })

  test('throws an XdrError if a length is more than the bytes or the limit', () => {
    const four = Buffer.from('00000004aaaaaaaa', 'hex')
    assert.throws(() => new XdrReader(four).opaque(3), XdrError)
    assert.throws(() => new XdrReader(Buffer.from('ffffffffaaaaaaaa', 'hex')).opaque(), XdrError)
    assert.throws(() => new XdrReader(Buffer.from('00000002', 'hex')).boolean(), XdrError)
  })

  test('writes bytes in place', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(40), (bytes, spare) => {
        const writer = new XdrWriter(4)
        writer.opaqueInPlace(bytes.length + spare, (room) => {
          assert.equal(room.length, bytes.length + spare)
          room.fill(0xee)
          room.set(bytes)
          return bytes.length
        })
        assert.deepEqual(Buffer.from(writer.written()), written([{ kind: 'opaque', value: bytes }]))
      }),
    )
  })
})

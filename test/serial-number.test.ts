// Serial numbers, as people write them and as firmware tells them.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { isSameSerial, parseSerial, serialInGuid } from '../src/serial-number.ts'

const hex = (bytes: number) =>
  fc
    .uint8Array({ minLength: bytes, maxLength: bytes })
    .map((all) => Buffer.from(all).toString('hex'))
const uuid = fc.tuple(hex(4), hex(2), hex(2), hex(2), hex(6)).map((parts) => parts.join('-'))

suite('serial numbers', () => {
  test('are those of a Raspberry Pi, or UUIDs, in capital letters as well', () => {
    fc.assert(
      fc.property(fc.oneof(hex(4), hex(8), uuid), (serial) => {
        assert.equal(parseSerial(serial.toUpperCase()), serial)
      }),
    )
    for (const text of [
      '',
      '1a2b3c4',
      '1a2b3c4d5',
      '1a2b3c4g',
      '4c4c4544-0043-4410-8042',
      '../a1b2c3d',
    ]) {
      assert.equal(parseSerial(text), undefined, text)
    }
  })

  test('are the same if a loader tells only the end of them, or another order of bytes', () => {
    assert.ok(isSameSerial('100000005b154510', '5b154510'))
    assert.ok(!isSameSerial('100000005b154510', '000000005b154510'))
    assert.ok(!isSameSerial('5b154510', '5b154511'))
    // The UUID that dmidecode prints, and the bytes that SeaBIOS and iPXE send of it.
    const printed = '12345678-9abc-def0-1122-334455667788'
    assert.ok(isSameSerial(printed, '78563412-bc9a-f0de-1122-334455667788'))
    fc.assert(
      fc.property(uuid, uuid, (one, other) => {
        assert.ok(isSameSerial(one, one))
        assert.equal(isSameSerial(one, other), isSameSerial(other, one))
      }),
    )
  })

  test('are read from the identifier that a Raspberry Pi sends', () => {
    // A Raspberry Pi 4 that asked TFTP for 5b154510/start4.elf, in a log of dnsmasq.
    const guid = Buffer.from('00525069341131a000322ef8ed1045155b', 'hex')
    assert.equal(serialInGuid(guid), '5b154510')
    const old = Buffer.from(`00${'1045155b'.repeat(4)}`, 'hex')
    assert.equal(serialInGuid(old), '5b154510')
  })

  test('are UUIDs of all other firmware, unless its maker has set none', () => {
    fc.assert(
      fc.property(uuid, (each) => {
        const bytes = Buffer.from(each.replaceAll('-', ''), 'hex')
        const read = serialInGuid(Buffer.concat([Buffer.from([0]), bytes]))
        const isOther = bytes.subarray(0, 3).toString('latin1') === 'RPi'
        if (!isOther && new Set(bytes).size > 4) assert.equal(read, each)
      }),
    )
    for (const byte of [0, 255]) {
      assert.equal(serialInGuid(Buffer.alloc(17, byte).fill(0, 0, 1)), undefined)
    }
  })

  test('are nothing in what no firmware sends', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const serial = serialInGuid(Buffer.from(bytes))
        if (serial !== undefined) assert.equal(parseSerial(serial), serial)
        if (bytes.length !== 17 || bytes[0] !== 0) assert.equal(serial, undefined)
      }),
    )
  })
})

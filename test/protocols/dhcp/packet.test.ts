import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { formatAddress } from '../../../src/ipv4.ts'
import {
  addressIn,
  architecturesIn,
  messageTypeOf,
  userClassesIn,
} from '../../../src/protocols/dhcp/options.ts'
import {
  decodePacket,
  DhcpPacketError,
  encodePacket,
  type DhcpPacket,
} from '../../../src/protocols/dhcp/packet.ts'
import { dhclientRequest, dnsmasqOffer, ipxeDiscover, udhcpcDiscover } from './captured.ts'

const captured = { dhclientRequest, dnsmasqOffer, ipxeDiscover, udhcpcDiscover }

const address = fc.nat(0xffffffff).map(formatAddress)
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((value) => Buffer.from(value))
const text = (maxLength: number) =>
  fc
    .array(fc.integer({ min: 1, max: 255 }), { maxLength })
    .map((codes) => Buffer.from(codes).toString('latin1'))
/** All codes except padding, end, and overload. */
const code = fc.integer({ min: 1, max: 254 }).filter((number) => number !== 52)
const fields = {
  operation: fc.constantFrom('request' as const, 'reply' as const),
  hardwareType: fc.nat(255),
  hardwareAddress: bytes(16),
  hops: fc.nat(255),
  transaction: fc.nat(0xffffffff),
  seconds: fc.nat(0xffff),
  broadcast: fc.boolean(),
  clientAddress: address,
  yourAddress: address,
  nextServer: address,
  relay: address,
  serverName: text(64),
  file: text(128),
  options: fc
    .array(fc.tuple(code, bytes(700)), { maxLength: 6 })
    .map((options) => new Map(options)),
}
const packets: fc.Arbitrary<DhcpPacket> = fc.record(fields, { noNullPrototype: true })

suite('a DHCP packet', () => {
  test('is the same after it was encoded and decoded', () => {
    fc.assert(
      fc.property(packets, (packet) => {
        const written = encodePacket(packet, 65_000)
        assert.ok(written.length >= 300)
        assert.deepEqual(decodePacket(written), packet)
      }),
    )
  })

  test('has options in the fields file and sname, if the client accepts no longer packet', () => {
    const options = fc.array(fc.tuple(code, bytes(40)), { minLength: 6, maxLength: 12 })
    const withoutNames = fc.tuple(packets, options).map(([packet, small]) => ({
      ...packet,
      serverName: '',
      file: '',
      options: new Map(small),
    }))
    let spread = 0
    fc.assert(
      fc.property(withoutNames, fc.integer({ min: 300, max: 340 }), (packet, maxBytes) => {
        let written: Buffer
        try {
          written = encodePacket(packet, maxBytes)
        } catch (error) {
          assert.ok(error instanceof DhcpPacketError)
          return
        }
        assert.ok(written.length <= maxBytes)
        if (written.subarray(44, 236).some((byte) => byte !== 0)) spread++
        assert.deepEqual(decodePacket(written).options, packet.options)
      }),
      { numRuns: 500 },
    )
    assert.ok(spread > 10, `only ${spread} packets needed the fields`)
  })

  test('that is broken in any way is refused', () => {
    const broken = fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      fc
        .tuple(
          fc.constantFrom(...Object.values(captured)),
          fc.array(fc.tuple(fc.nat(411), fc.nat(255)), { maxLength: 20 }),
          fc.nat(411),
        )
        .map(([packet, changes, length]) => {
          const copy = Buffer.from(packet)
          for (const [at, byte] of changes) copy[at % copy.length] = byte
          return copy.subarray(0, length)
        }),
    )
    let refused = 0
    fc.assert(
      fc.property(broken, (packet) => {
        let read: DhcpPacket
        try {
          read = decodePacket(packet)
        } catch (error) {
          assert.ok(error instanceof DhcpPacketError)
          refused++
          return
        }
        // Reading hostile options must not throw.
        for (const value of [architecturesIn, userClassesIn, messageTypeOf]) value(read)
        assert.deepEqual(decodePacket(encodePacket(read, 65_000)), read)
      }),
      { numRuns: 2000 },
    )
    assert.ok(refused > 100)
  })

  for (const [name, packet] of Object.entries(captured)) {
    test(`${name} is decoded and encoded again`, () => {
      const read = decodePacket(packet)
      assert.deepEqual(decodePacket(encodePacket(read)), read)
    })
  }

  test('of iPXE or dnsmasq has the values that tshark shows', () => {
    const discover = decodePacket(ipxeDiscover)
    assert.equal(messageTypeOf(discover), 1)
    assert.deepEqual(userClassesIn(discover), ['iPXE'])
    assert.deepEqual(architecturesIn(discover), [0])
    assert.equal(discover.hardwareAddress.toString('hex'), '525400000001')
    const offer = decodePacket(dnsmasqOffer)
    assert.equal(offer.yourAddress, '10.66.0.103')
    assert.equal(addressIn(offer, 54), '10.66.0.1')
    assert.match(offer.options.get(43)?.toString('latin1') ?? '', /Raspberry Pi Boot/)
    assert.deepEqual(architecturesIn(decodePacket(udhcpcDiscover)), [7])
    assert.equal(addressIn(decodePacket(dhclientRequest), 50), '10.66.0.109')
  })

  test('with parts of an option in three places is joined [RFC 3396 §8]', () => {
    // The example of the RFC: the parts of an option are in the options, in file and in sname.
    const packet = encodePacket({ ...decodePacket(ipxeDiscover), options: new Map() })
    packet.fill(0, 240)
    packet.set([52, 1, 3, 43, 2, 1, 2, 255], 240)
    packet.set([43, 1, 3, 255], 108)
    packet.set([43, 2, 4, 5, 255], 44)
    assert.deepEqual([...(decodePacket(packet).options.get(43) ?? [])], [1, 2, 3, 4, 5])
  })

  test('may have one user class or a list of them [RFC 3004 §4]', () => {
    const classes = (value: Buffer) =>
      userClassesIn({ ...decodePacket(ipxeDiscover), options: new Map([[77, value]]) })
    assert.deepEqual(classes(Buffer.from('iPXE')), ['iPXE'])
    assert.deepEqual(classes(Buffer.from('\x04iPXE\x03lab')), ['iPXE', 'lab'])
    assert.deepEqual(classes(Buffer.from('\x1b[2J')), ['?[2J'])
  })
})

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { followExchanges } from '../../../src/protocols/dhcp/exchanges.ts'
import { machineOf } from '../../../src/protocols/dhcp/machine.ts'
import { addressValue, messageType, option } from '../../../src/protocols/dhcp/options.ts'
import { decodePacket, type DhcpPacket } from '../../../src/protocols/dhcp/packet.ts'
import { ipxeDiscover } from './captured.ts'

const server = '10.0.0.1'
const pi = 'dca6320136c2'
const pxeClass = [option.vendorClass, Buffer.from('PXEClient:Arch:00000:UNDI:002001')] as const
const bios = [option.architecture, Buffer.from([0, 0])] as const
const guid = [option.guid, Buffer.alloc(17, 1)] as const

function packet(
  type: keyof typeof messageType,
  transaction: number,
  options: readonly (readonly [number, Buffer])[] = [],
  mac = pi,
): DhcpPacket {
  const all = [[option.messageType, Buffer.from([messageType[type]])] as const, ...options]
  const hardwareAddress = Buffer.from(mac, 'hex')
  return { ...decodePacket(ipxeDiscover), hardwareAddress, transaction, options: new Map(all) }
}

function open() {
  const complete = followExchanges(server)
  return (request: DhcpPacket, port = 67) => machineOf(complete(request, port))?.bootClient
}

const toUs = [option.serverId, addressValue(server)] as const

suite('the boot client of a machine in one exchange', () => {
  test('is the one of the DISCOVER, if the REQUEST has no vendor class', () => {
    // A Raspberry Pi does this: raspberrypi/rpi-eeprom#87.
    const ask = open()
    assert.equal(ask(packet('discover', 7, [pxeClass, bios, guid])), 'raspberry-pi')
    assert.equal(ask(packet('request', 7, [bios, guid, toUs])), 'raspberry-pi')
    assert.equal(ask(packet('request', 7, [toUs])), 'raspberry-pi')
  })

  test('is the same for a new transaction that takes our offer, or that asks on the port of a proxy', () => {
    for (const [options, port] of [
      [[toUs], 67],
      [[], 4011],
    ] as const) {
      const ask = open()
      ask(packet('discover', 7, [pxeClass, bios]))
      assert.equal(ask(packet('request', 8, options), port), 'raspberry-pi')
    }
  })

  test('is undefined for a system that asks later, and for another machine', () => {
    const ask = open()
    ask(packet('discover', 7, [pxeClass, bios]))
    assert.equal(ask(packet('request', 7, [toUs], '525400000001')), undefined)
    // The system asks for its old address, or renews its lease.
    assert.equal(ask(packet('request', 8)), undefined)
    assert.equal(ask(packet('discover', 9)), undefined)
    assert.equal(ask(packet('request', 9, [toUs])), undefined)
    const other = [option.serverId, addressValue('10.0.0.2')] as const
    ask(packet('discover', 7, [pxeClass, bios]))
    assert.equal(ask(packet('request', 8, [other])), undefined)
  })

  test('is the one of the latest packet, if the packet identifies it', () => {
    const ask = open()
    ask(packet('discover', 7, [pxeClass, bios]))
    const ipxe = [option.userClass, Buffer.from('iPXE')] as const
    assert.equal(ask(packet('request', 7, [toUs, ipxe])), 'ipxe')
  })
})

suite('the boot client of a machine by one packet', () => {
  const of = (...options: (readonly [number, Buffer])[]) =>
    open()(packet('discover', 1, options, mac))
  const mac = '020000000001'
  const architecture = (type: number) => [option.architecture, Buffer.from([0, type])] as const

  test('is a Raspberry Pi if its identifier says so, with any hardware address', () => {
    const rpi4 = Buffer.from('0052506934c031110001020304aabbccdd', 'hex')
    assert.equal(of(pxeClass, bios, [option.guid, rpi4]), 'raspberry-pi')
    assert.equal(of(pxeClass, bios, guid), 'pxe')
    // UEFI on a Raspberry Pi takes a loader.
    assert.equal(of(pxeClass, architecture(11), [option.guid, rpi4]), 'pxe')
    assert.equal(of(pxeClass, architecture(41)), 'raspberry-pi')
  })

  test('is firmware if there is an architecture but no vendor class', () => {
    assert.equal(of(architecture(11)), 'pxe')
    assert.equal(of(architecture(28)), 'http')
    assert.equal(of(architecture(22)), 'u-boot')
    assert.equal(of([option.vendorClass, Buffer.from('dhcpcd')], architecture(11)), undefined)
  })
})

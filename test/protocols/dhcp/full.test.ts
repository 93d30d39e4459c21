import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { NetimageError } from '../../../src/errors.ts'
import { parseNetwork } from '../../../src/ipv4.ts'
import { serveInFull, type Postponed } from '../../../src/protocols/dhcp/full.ts'
import { keepLeases } from '../../../src/protocols/dhcp/leases.ts'
import { postponedTeller } from '../../../src/protocols/dhcp/postponed.ts'
import type { Lease } from '../../../src/protocols/dhcp/lease-file.ts'
import { machineOf } from '../../../src/protocols/dhcp/machine.ts'
import {
  addressIn,
  addressValue,
  messageType,
  messageTypeOf,
  option,
} from '../../../src/protocols/dhcp/options.ts'
import { decodePacket, type DhcpPacket } from '../../../src/protocols/dhcp/packet.ts'
import { destinationOf } from '../../../src/protocols/dhcp/reply.ts'
import { ipxeDiscover } from './captured.ts'

const hour = 3_600_000
const server = '10.0.0.1'
const a = '52:54:00:00:00:0a'
const b = '52:54:00:00:00:0b'

function open({
  last = '10.0.0.103',
  reservations = new Map<string, string>(),
  reservationsNow = () => reservations,
}: {
  last?: string
  reservations?: Map<string, string>
  reservationsNow?: () => Map<string, string>
} = {}) {
  let now = 1_000_000
  const written: Lease[] = []
  const renewed: Lease[] = []
  const users = new Map<string, string>()
  const disk = { isFull: false }
  const leases = keepLeases({
    range: { first: '10.0.0.100', last },
    reservations: reservationsNow,
    excluded: [server],
    file: {
      read: () => [],
      write(lease) {
        if (disk.isFull) throw new Error('the disk is full')
        written.push(lease)
      },
      renew: (lease) => void renewed.push(lease),
      close: () => {},
    },
  })
  const network = parseNetwork('10.0.0.0/24')
  const probes = { now: 0, most: 0 }
  async function findUser(address: string): Promise<string | undefined> {
    now += 400
    probes.most = Math.max(probes.most, ++probes.now)
    const user = await Promise.resolve(users.get(address))
    probes.now--
    return user
  }
  const told = { routers: [], nameServers: [] }
  const hostNameOf = (mac: string) => (mac === a ? 'pi1' : undefined)
  const postponed: Postponed[] = []
  const answer = serveInFull({
    ...{ address: server, network, told, hostNameOf, leases, findUser },
    onPostponed: (one) => void postponed.push(one),
    now: () => now,
  })

  async function send(
    type: keyof typeof messageType,
    mac: string,
    { wanted, to, ...fields }: Partial<DhcpPacket> & { wanted?: string; to?: string } = {},
  ) {
    const options = new Map<number, Buffer>()
    options.set(option.messageType, Buffer.from([messageType[type]]))
    if (wanted !== undefined) options.set(option.requestedAddress, addressValue(wanted))
    if (to !== undefined) options.set(option.serverId, addressValue(to))
    const hardwareAddress = Buffer.from(mac.replaceAll(':', ''), 'hex')
    const packet = { ...decodePacket(ipxeDiscover), hardwareAddress, options, ...fields }
    const machine = machineOf(packet)
    assert.ok(machine)
    const result = await answer(packet, machine, undefined)
    return result && { ...result, type: result.packet && messageTypeOf(result.packet) }
  }

  /** Exchanges all four packets. @returns the address */
  async function lease(mac: string): Promise<string> {
    const wanted = (await send('discover', mac))?.address ?? ''
    const result = await send('request', mac, { wanted, to: server })
    assert.equal(result?.type, messageType.acknowledge, result?.reason)
    assert.equal(result?.packet?.yourAddress, wanted)
    return wanted
  }

  const wait = (ms: number) => void (now += ms)
  const trust = (mac: string) => leases.trust(mac, now, 43_200)
  return { send, lease, wait, trust, written, renewed, users, disk, probes, postponed }
}

suite('a full DHCP server [RFC 2131]', () => {
  test('writes a lease before it acknowledges the lease', async () => {
    const { lease, written } = open()
    const address = await lease(a)
    assert.deepEqual(written.at(-1)?.mac, a)
    assert.ok(address.endsWith(String((written.at(-1)?.address ?? 0) % 256)))
  })

  test('names itself as the boot server, even to a kernel that only needs an address', async () => {
    // `nfsroot=` without a server means the address in siaddr: net/ipv4/ipconfig.c in Linux.
    const { send } = open()
    const offer = await send('discover', a)
    const told = await send('request', a, { wanted: offer?.address ?? '', to: server })
    assert.deepEqual([offer?.packet?.nextServer, told?.packet?.nextServer], [server, server])
  })

  test('tells a machine the host name that a person gave it', async () => {
    const { send } = open()
    const [named, other] = [await send('discover', a), await send('discover', b)]
    assert.equal(named?.packet?.options.get(option.hostName)?.toString(), 'pi1')
    assert.equal(other?.packet?.options.has(option.hostName), false)
  })

  test('gives an unknown machine only an address that was offered, so that a flood cannot take all', async () => {
    const { send, written } = open()
    for (let last = 100; last < 104; last++) {
      const mac = `02:00:00:00:00:${last - 60}`
      const result = await send('request', mac, { wanted: `10.0.0.${last}`, to: server })
      assert.equal(result?.type, messageType.negative)
    }
    assert.deepEqual(written, [])
  })

  const lengthOf = (result: { packet?: DhcpPacket } | undefined) =>
    result?.packet?.options.get(option.leaseSeconds)?.readUInt32BE(0)

  test('gives a long lease only to a machine that fetched something, or still renews after a while', async () => {
    const { send, lease, trust, wait } = open()
    assert.equal(lengthOf(await send('discover', a)), 600)
    const clientAddress = await lease(a)
    const renew = async () => lengthOf(await send('request', a, { clientAddress }))
    assert.equal(await renew(), 600)
    trust(a)
    assert.equal(await renew(), 43_200)

    const other = await lease(b)
    wait(300_000)
    assert.equal(lengthOf(await send('request', b, { clientAddress: other })), 43_200)
  })

  test('does not wait for the disk if only the time of a lease changes', async () => {
    const { send, lease, wait, written, renewed } = open()
    const clientAddress = await lease(a)
    wait(300_000)
    await send('request', a, { clientAddress })
    assert.deepEqual([written.length, renewed.length], [1, 1])
    assert.ok((renewed[0]?.expires ?? 0) > (written[0]?.expires ?? 0) + 11 * hour)
    // The lease on the disk has expired, so this renewal must be written at once.
    wait(13 * hour)
    await lease(a)
    assert.deepEqual([written.length, renewed.length], [2, 1])
  })

  test('serves a new machine after a flood of invented ones, and no real machine loses its address', async () => {
    const { lease, send, trust, wait } = open()
    const real = await lease(a)
    trust(a)
    for (let last = 10; last < 13; last++) await lease(`02:00:00:00:00:${last}`)
    assert.equal((await send('discover', b))?.reason, 'no address is left')
    wait(31_000)
    const address = await lease(b)
    assert.notEqual(address, real)
    const kept = await send('request', a, { clientAddress: real })
    assert.equal(kept?.type, messageType.acknowledge)
  })

  test('lets a machine keep its doubtful address while the address is offered to another', async () => {
    const { lease, send, wait } = open({ last: '10.0.0.100' })
    const address = await lease(a)
    wait(60_000)
    assert.equal((await send('discover', b))?.address, address)
    const kept = await send('request', a, { clientAddress: address })
    assert.equal(kept?.type, messageType.acknowledge)
  })

  test('does not acknowledge a lease that it cannot write', async () => {
    const { lease, disk } = open({ last: '10.0.0.100' })
    disk.isFull = true
    await assert.rejects(lease(a), /the disk is full/)
    disk.isFull = false
    assert.equal(await lease(a), '10.0.0.100')
  })

  test('gives two machines two addresses, and the same ones again after both leases have expired', async () => {
    const { lease, wait } = open()
    const had = [await lease(a), await lease(b)]
    assert.notEqual(had[0], had[1])
    wait(13 * hour)
    assert.deepEqual([await lease(b), await lease(a)], had.toReversed())
  })

  test('gives the address that was free for longest, if every address was used before', async () => {
    const { lease, wait } = open({ last: '10.0.0.101' })
    const first = await lease(a)
    wait(60_000)
    await lease(b)
    wait(13 * hour)
    assert.equal(await lease('52:54:00:00:00:0c'), first)
  })

  test('refuses while all addresses are in use, until a lease expires', async () => {
    const { lease, send, wait } = open({ last: '10.0.0.100' })
    await lease(a)
    assert.equal((await send('discover', b))?.reason, 'no address is left')
    wait(12 * hour + 1)
    assert.equal(await lease(b), '10.0.0.100')
  })

  test('withdraws its offer if the machine chose another server', async () => {
    const { send, lease } = open({ last: '10.0.0.100' })
    await send('discover', a)
    assert.equal(await send('request', a, { wanted: '10.0.0.100', to: '10.0.0.2' }), undefined)
    assert.equal(await lease(b), '10.0.0.100')
  })

  test('renews by unicast, and refuses the address of another machine', async () => {
    const { lease, send } = open()
    const address = await lease(a)
    const renewed = await send('request', a, { clientAddress: address })
    assert.equal(renewed?.type, messageType.acknowledge)
    assert.ok(renewed?.packet)
    assert.deepEqual(destinationOf(renewed.packet), { address, port: 68 })

    const refused = await send('request', b, { wanted: address, to: server })
    assert.equal(refused?.type, messageType.negative)
    assert.ok(refused?.packet)
    assert.deepEqual(destinationOf(refused.packet), { address: '255.255.255.255', port: 68 })
  })

  test('grants a restarted machine its own address, and refuses or ignores others', async () => {
    const { lease, send } = open()
    const address = await lease(a)
    const type = async (mac: string, wanted: string) =>
      (await send('request', mac, { wanted }))?.type
    assert.equal(await type(a, address), messageType.acknowledge)
    assert.equal(await type(a, '10.0.0.99'), messageType.negative)
    assert.equal(await type(b, '192.168.7.7'), messageType.negative)
    assert.equal(await type(b, address), messageType.negative)
    const free = ['10.0.0.100', '10.0.0.101'].find((one) => one !== address) ?? ''
    assert.equal(await type(b, free), undefined)
    // Another server may have given this address.
    assert.equal(await type(b, '10.0.0.200'), undefined)
    assert.equal(await send('request', b, { clientAddress: '192.168.7.7' }), undefined)
  })

  test('avoids a declined address for a while, if the machine had been given this address', async () => {
    const { lease, send, wait } = open({ last: '10.0.0.101' })
    assert.equal(await send('decline', b, { wanted: '10.0.0.100', to: server }), undefined)
    const declined = await lease(a)
    assert.equal((await send('decline', a, { wanted: declined, to: server }))?.step, 'decline')
    const next = await lease(a)
    assert.notEqual(next, declined)
    wait(601_000)
    assert.equal(await lease(b), declined)
  })

  test('does not offer an address that another machine uses, and tries the next', async () => {
    const { send, users } = open({ last: '10.0.0.101' })
    for (const last of [100, 101]) users.set(`10.0.0.${last}`, 'ee:ee:ee:ee:ee:ee')
    assert.match((await send('discover', a))?.reason ?? '', /is used by ee:ee/)
    users.delete('10.0.0.101')
    assert.equal((await send('discover', a))?.address, '10.0.0.101')
  })

  test('ends a lease that is released, but remembers the address of the machine', async () => {
    const { lease, send } = open({ last: '10.0.0.100' })
    const clientAddress = await lease(a)
    assert.equal(await send('release', b, { clientAddress }), undefined)
    assert.equal((await send('discover', b))?.step, 'refuse')
    assert.equal((await send('release', a, { clientAddress }))?.step, 'release')
    assert.equal((await send('discover', b))?.address, clientAddress)
  })

  test('answers through a relay of its network, and refuses other relays', async () => {
    const { send } = open()
    const answered = await send('discover', a, { relay: '10.0.0.9' })
    assert.ok(answered?.packet)
    assert.deepEqual(destinationOf(answered.packet), { address: '10.0.0.9', port: 67 })
    const refused = await send('discover', a, { relay: '10.9.0.9' })
    assert.equal(refused?.packet, undefined)
    assert.match(refused?.reason ?? '', /the relay 10\.9\.0\.9/)
  })

  test('tells a machine with a static address the other settings, without a lease', async () => {
    const { send } = open()
    const told = await send('inform', a, { clientAddress: '10.0.0.50' })
    assert.ok(told?.packet)
    assert.equal(told.packet.yourAddress, '0.0.0.0')
    assert.equal(told.packet.options.get(option.leaseSeconds), undefined)
    assert.equal(addressIn(told.packet, option.netmask), '255.255.255.0')
    assert.equal(await send('inform', a, { clientAddress: '192.168.7.7' }), undefined)
  })

  test('repeats the client identifier [RFC 6842]', async () => {
    const { send } = open()
    const id = Buffer.from([255, 1, 2, 3])
    const type = Buffer.from([messageType.discover])
    const result = await send('discover', a, {
      options: new Map([
        [53, type],
        [61, id],
      ]),
    })
    assert.deepEqual(result?.packet?.options.get(61), id)
  })

  test('grants the address that it offered, even if only a doubtful address was left', async () => {
    const { lease, send } = open({ last: '10.0.0.100' })
    await lease(a)
    await send('decline', a, { wanted: '10.0.0.100', to: server })
    assert.equal(await lease(a), '10.0.0.100')

    const replaced = open({ reservations: new Map([[b, '10.0.0.9']]) })
    replaced.users.set('10.0.0.9', 'ee:ee:ee:ee:ee:ee')
    assert.equal((await replaced.send('discover', b))?.step, 'refuse')
    replaced.users.clear()
    assert.equal(await replaced.lease(b), '10.0.0.9')
  })

  test('gives an address that is reserved later to its machine at its next start, and to no other', async () => {
    let reserved = new Map<string, string>()
    const { lease, send } = open({ last: '10.0.0.101', reservationsNow: () => reserved })
    const first = await lease(a)
    reserved = new Map([[a, '10.0.0.50']])
    // Its root is mounted by this address.
    const renewed = await send('request', a, { clientAddress: first })
    assert.equal(renewed?.type, messageType.acknowledge, renewed?.reason)
    assert.equal(await lease(a), '10.0.0.50')
    reserved = new Map([
      [a, '10.0.0.50'],
      [b, '10.0.0.100'],
    ])
    for (const mac of ['52:54:00:00:00:0c', '52:54:00:00:00:0d']) {
      assert.notEqual((await send('discover', mac))?.address, '10.0.0.100')
    }
    assert.equal(await lease(b), '10.0.0.100')
    reserved = new Map()
    assert.equal((await send('discover', a))?.address?.startsWith('10.0.0.10'), true)
  })

  test('leaves a machine the address that is reserved for another one, until it starts again', async () => {
    let reserved = new Map<string, string>()
    const { lease, send, users, wait, postponed } = open({ reservationsNow: () => reserved })
    const address = await lease(a)
    reserved = new Map([[b, address]])
    const other = await lease(b)
    assert.notEqual(other, address)
    assert.equal(other.startsWith('10.0.0.10'), true)
    assert.deepEqual(postponed.at(-1), { mac: b, reserved: address, holder: a, given: other })
    // The root of each is mounted by its address.
    for (const [mac, clientAddress] of [
      [a, address],
      [b, other],
    ] as const) {
      const renewed = await send('request', mac, { clientAddress })
      assert.equal(renewed?.type, messageType.acknowledge, renewed?.reason)
      const started = await send('request', mac, { wanted: clientAddress })
      assert.equal(started?.type, messageType.acknowledge, started?.reason)
    }
    const next = await lease(a)
    assert.equal([address, other].includes(next), false)
    assert.equal(
      (await send('request', b, { clientAddress: other }))?.type,
      messageType.acknowledge,
    )
    assert.equal(await lease(b), address)

    // This machine never renews its lease, and does not stop using its address.
    reserved = new Map([
      [b, address],
      ['52:54:00:00:00:0c', next],
    ])
    users.set(next, a)
    wait(100 * hour)
    const third = await lease('52:54:00:00:00:0c')
    assert.equal([address, next].includes(third), false)
    assert.equal(postponed.at(-1)?.holder, a)
    users.clear()
    wait(hour)
    assert.equal(await lease('52:54:00:00:00:0c'), next)
  })

  test('tells once that a replaced board keeps its address, and gives it to the new one after its lease', async () => {
    let reserved = new Map([[a, '10.0.0.9']])
    const { lease, wait, postponed } = open({ reservationsNow: () => reserved })
    assert.equal(await lease(a), '10.0.0.9')
    // It is dead, and the file of the site has the hardware address of the new board.
    reserved = new Map([[b, '10.0.0.9']])
    assert.notEqual(await lease(b), '10.0.0.9')
    const errors: NetimageError[] = []
    const tell = postponedTeller((error) => errors.push(error))
    for (const each of [...postponed, ...postponed]) tell(each)
    assert.equal(errors.length, 1)
    assert.match(errors[0]?.hint ?? '', /Restart 52:\S+, which .* gone for good, .* 12 hours/)
    wait(12 * hour)
    assert.equal(await lease(b), '10.0.0.9')
  })

  test('serves known machines and a new one during a flood of thousands of invented machines', async () => {
    const reservations = new Map([[b, '10.0.0.9']])
    const { lease, send, probes } = open({ last: '10.0.0.119', reservations })
    const address = await lease(a)
    const invented = Array.from({ length: 5000 }, (_, index) => {
      const hex = index.toString(16).padStart(4, '0')
      return `02:00:00:00:${hex.slice(0, 2)}:${hex.slice(2)}`
    })
    const flood = invented.map((mac) => send('discover', mac))
    const [known, reserved] = [lease(a), lease(b)]
    await Promise.all(flood)
    assert.equal(await known, address)
    assert.equal(await reserved, '10.0.0.9')
    assert.match(await lease('52:54:00:00:00:0c'), /^10\.0\.0\.1[01]\d$/)
    assert.ok(probes.most <= 260, `${probes.most} probes at once`)
  })
})

// The names of machines, with a table of neighbours that the test writes.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { parseArpTable } from '../../src/protocols/arp-table.ts'
import { readKernelTable } from '../../src/protocols/kernel-table.ts'
import type { Caller } from '../../src/protocols/rpc/program.ts'
import { createIdentities, type Allowed } from '../../src/serve/identity.ts'
import { createNeighbours } from '../../src/serve/neighbours.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const device = 'br0'
const [one, two] = ['52:54:00:00:00:01', '52:54:00:00:00:02']

/** The table as Linux prints it: proc_net(5). */
function tableOf(rows: Record<string, [mac: string, flags?: number, device?: string]>): string {
  const lines = Object.entries(rows).map(
    ([address, [mac, flags = 2, on = device]]) =>
      `${address.padEnd(16)} 0x1         0x${flags}         ${mac}     *        ${on}\n`,
  )
  return `IP address       HW type     Flags       HW address            Mask     Device\n${lines.join('')}`
}

function open(allowed: Allowed = 'any', learntAddresses = new Map<string, string>()) {
  let reads = 0
  let table: string | undefined = tableOf({ '10.0.0.9': ['52:54:00:00:00:09'] })
  const [doubles, kept]: [string[], string[]] = [[], []]
  const probes: string[] = []
  let now = 0
  const neighbours = createNeighbours(device, () => {
    reads++
    if (table === undefined) {
      throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' })
    }
    return table
  })
  const identities = createIdentities({
    ...{ allowed, neighbours, learntAddresses },
    now: () => now,
    onAddress: (address, mac) => kept.push(`${address} ${mac}`),
    isNeighbour: (address) => address.startsWith('10.0.0.'),
    onDouble: ({ name, first, second }) => doubles.push(`${name}: ${first}, ${second}`),
  })
  return {
    ...{ identities, doubles, kept, probes },
    wait: (seconds: number) => void (now += seconds * 1000),
    reads: () => reads,
    write: (rows: Parameters<typeof tableOf>[0]) => void (table = tableOf(rows)),
    /** No descriptor is left. */
    hide: () => void (table = undefined),
  }
}

function connection(address: string, probes: string[] = []): Caller {
  return { address, transport: 'tcp', probe: () => probes.push(address) }
}

suite('the table of neighbours', () => {
  test('has the neighbours on the served interface whose hardware address the kernel knows', () => {
    const table = tableOf({
      '10.0.0.100': ['52:54:00:AB:00:01'],
      '10.0.0.101': ['00:00:00:00:00:00', 0],
      '10.0.0.102': [two, 2, 'br1'],
    })
    const { macs, silent, size } = parseArpTable(table, device)
    assert.deepEqual([...macs], [['10.0.0.100', '52:54:00:ab:00:01']])
    assert.deepEqual([...silent], ['10.0.0.101'])
    assert.equal(size, 2)
    assert.equal(parseArpTable('no table\n\n', device).size, 0)
  })

  test('does not let a host on another interface take the address of a served machine', () => {
    // The kernel lists both, in any order.
    const table = `${tableOf({ '10.0.0.7': [one] })}${tableOf({ '10.0.0.7': [two, 2, 'br1'] })}`
    assert.equal(parseArpTable(table, device).macs.get('10.0.0.7'), one)
  })

  test('is read once in a turn, and again in the next turn', async () => {
    const { identities, reads, write } = open()
    for (let host = 0; host < 512; host++) identities.nameAt(`10.0.${host >> 8}.${host & 255}`)
    assert.equal(reads(), 1)
    write({ '10.0.0.7': [one] })
    await nextTurn()
    assert.equal(identities.nameAt('10.0.0.7'), one)
    assert.equal(reads(), 2)
  })

  test('has no neighbours on a system that has none', () => {
    const neighbours = createNeighbours(device, () =>
      readKernelTable(join(temporaryDirectory(), 'arp')),
    )
    assert.equal(neighbours.isUnreadable(), false)
    assert.equal(neighbours.macOf('10.0.0.7'), undefined)
    assert.equal(neighbours.hasTable(), false)
  })
})

suite('a machine with several hardware addresses', () => {
  test('has one name, and may boot if one of the addresses is allowed', () => {
    const cards = [one, two]
    const neighbours = createNeighbours(device, () =>
      tableOf({ '10.0.0.1': [one], '10.0.0.2': [two], '10.0.0.9': ['52:54:00:00:00:09'] }),
    )
    for (const allowed of cards) {
      const identities = createIdentities({
        ...{ allowed: new Set([allowed]), neighbours, isNeighbour: () => true },
        onDouble: () => {},
        declared: {
          machineOf: (mac) => (mac === two ? one : mac),
          cardsOf: (machine) => (machine === one ? cards : [machine]),
        },
      })
      assert.deepEqual(
        ['10.0.0.1', '10.0.0.2'].map((address) => identities.nameAt(address)),
        [one, one],
      )
      assert.deepEqual([...cards, '52:54:00:00:00:09'].map(identities.isAllowed), [
        true,
        true,
        false,
      ])
      assert.equal(identities.nameOf(connection('10.0.0.2')), one)
      assert.equal(identities.addressOf(one), '10.0.0.2')
    }
  })
})

suite('the name of a machine', () => {
  test('a new machine does not get another name while another machine calls all the time', async () => {
    const { identities, write } = open()
    const [busy, newcomer] = [connection('10.0.0.9'), connection('10.0.0.7')]
    for (let turn = 0; turn < 20; turn++) {
      assert.equal(identities.nameOf(busy), '52:54:00:00:00:09')
      assert.equal(identities.nameAt('10.0.0.9'), '52:54:00:00:00:09')
      // The new machine comes into the table after the table was read in this turn, right before
      // its first call.
      if (turn === 10) {
        write({ '10.0.0.9': ['52:54:00:00:00:09'], '10.0.0.7': [one] })
        assert.equal(identities.nameOf(newcomer), undefined)
      }
      await nextTurn()
      if (turn >= 10) assert.equal(identities.nameOf(newcomer), one)
    }
  })

  test('boot files go to the new machine as well, in the next turn', async () => {
    const { identities, write } = open()
    assert.equal(identities.nameAt('10.0.0.7'), undefined)
    write({ '10.0.0.7': [one] })
    assert.equal(await identities.nameSoon('10.0.0.7'), one)
  })

  test('a connection belongs to its machine, even if the table is empty or has changed', async () => {
    const { identities, write, reads } = open()
    write({ '10.0.0.7': [one] })
    const caller = connection('10.0.0.7')
    assert.equal(identities.nameOf(caller), one)
    write({ '10.0.0.7': [two] })
    await nextTurn()
    const before = reads()
    for (let call = 0; call < 1000; call++) assert.equal(identities.nameOf(caller), one)
    assert.equal(reads(), before)
    assert.equal(identities.nameOf(connection('10.0.0.7')), two)
  })

  test('a silent machine keeps its name, although the kernel forgets the machine', async () => {
    const { identities, write } = open()
    write({ '10.0.0.7': [one] })
    assert.equal(identities.nameAt('10.0.0.7'), one)
    write({ '10.0.0.7': [one, 0] })
    await nextTurn()
    assert.equal(identities.nameAt('10.0.0.7'), one)
    write({ '10.0.0.7': [two] })
    await nextTurn()
    assert.equal(identities.nameAt('10.0.0.7'), two)
  })

  test('our own DHCP leases are used after the table', () => {
    const { identities } = open()
    identities.learnAddress(two, '10.0.0.50')
    assert.equal(identities.nameAt('10.0.0.50'), two)
    identities.learnAddress(two, '10.0.0.9')
    assert.equal(identities.nameAt('10.0.0.9'), '52:54:00:00:00:09')
  })

  test('behind a router, or without a table, the IP address is the name', async () => {
    const { identities, write } = open()
    assert.equal(identities.nameOf(connection('10.1.0.7')), '10.1.0.7')
    write({})
    await nextTurn()
    assert.equal(identities.nameOf(connection('10.0.0.7')), '10.0.0.7')
  })

  test('what an earlier run of the server knew counts only if the table cannot tell', async () => {
    const learntAddresses = new Map([
      ['10.1.0.7', one],
      ['10.0.0.7', one],
      ['10.1.0.8', one],
    ])
    const { identities, kept, write } = open('any', learntAddresses)
    assert.equal(identities.nameAt('10.1.0.7'), one)
    // A neighbour may be another machine by now: it must ask again until the table knows it.
    assert.equal(identities.nameAt('10.0.0.7'), undefined)
    write({ '10.0.0.7': [two] })
    await nextTurn()
    assert.equal(identities.nameAt('10.0.0.7'), two)
    assert.deepEqual(kept, [`10.0.0.7 ${two}`])
    // Only changes are kept.
    identities.nameAt('10.0.0.7')
    identities.learnAddress(one, '10.1.0.7')
    assert.equal(kept.length, 1)
    identities.learnAddress(two, '10.1.0.8')
    assert.equal(identities.nameAt('10.1.0.8'), two)
    identities.learnAddress(one, '10.1.0.8')
    assert.deepEqual(kept.slice(1), [`10.1.0.8 ${two}`, `10.1.0.8 ${one}`])
    const limited = open(new Set(['10.1.0.7']), learntAddresses).identities
    assert.equal(limited.nameAt('10.1.0.7'), '10.1.0.7')
  })

  test('a neighbour has none while the table cannot be read, and then its own', async () => {
    const { identities, write, hide } = open(
      'any',
      new Map([
        ['10.0.0.8', two],
        ['10.1.0.8', two],
      ]),
    )
    write({ '10.0.0.7': [one] })
    const [early, late] = [connection('10.0.0.7'), connection('10.0.0.7')]
    assert.equal(identities.nameOf(early), one)
    hide()
    await nextTurn()
    for (const address of ['10.0.0.7', '10.0.0.8']) {
      assert.equal(identities.nameAt(address), undefined)
      assert.equal(await identities.nameSoon(address), undefined)
      assert.equal(identities.nameOf({ address, transport: 'udp' }), undefined)
    }
    identities.enters(late)
    assert.equal(identities.nameOf(late), undefined)
    // A connection keeps its name, and what is told of a machine comes from it all the same.
    assert.equal(identities.nameOf(early), one)
    assert.equal(identities.toldNameAt('10.0.0.7'), one)
    assert.equal(identities.toldNameAt('10.0.0.8'), '10.0.0.8')
    // The table would not have them.
    assert.equal(identities.nameAt('10.1.0.7'), '10.1.0.7')
    assert.equal(identities.nameAt('10.1.0.8'), two)
    write({ '10.0.0.7': [two], '10.0.0.8': [one] })
    await nextTurn()
    assert.equal(identities.nameOf(late), two)
    assert.equal(identities.nameAt('10.0.0.8'), one)
  })

  test('a machine that is allowed only by its IP address has that address as its name', () => {
    const { identities, write } = open(new Set(['10.0.0.7', '10.0.0.8', two]))
    write({ '10.0.0.7': [one], '10.0.0.8': [two] })
    assert.equal(identities.nameAt('10.0.0.7'), '10.0.0.7')
    assert.equal(identities.nameAt('10.0.0.8'), two)
  })

  test('a second IP address with the same hardware address waits', () => {
    const { identities, doubles, write } = open()
    write({ '10.0.0.7': [one], '10.0.0.8': [one] })
    const [first, second] = [connection('10.0.0.7'), connection('10.0.0.8')]
    assert.equal(identities.nameOf(first), one)
    for (let call = 0; call < 10; call++) {
      assert.equal(identities.nameOf(second), undefined)
      assert.equal(identities.nameOf(connection('10.0.0.8')), undefined)
    }
    assert.deepEqual([...new Set(doubles)], [`${one}: 10.0.0.7, 10.0.0.8`])
    // More connections of the first are its own affair.
    const more = connection('10.0.0.7')
    assert.equal(identities.nameOf(more), one)
    identities.leaves(first)
    assert.equal(identities.nameOf(second), undefined)
    identities.leaves(more)
    assert.equal(identities.isConnected(one), false)
    assert.equal(identities.nameOf(second), one)
    assert.equal(identities.nameOf(connection('10.0.0.7')), undefined)
    assert.equal(doubles.at(-1), `${one}: 10.0.0.8, 10.0.0.7`)
  })

  test('nothing is told of addresses of who is not served', () => {
    const { identities, doubles, write } = open(new Set([two]))
    write({ '10.0.0.7': [one], '10.0.0.8': [one] })
    for (const address of ['10.0.0.7', '10.0.0.8']) identities.nameOf(connection(address))
    assert.deepEqual(doubles, [])
  })

  test('a second machine is refused once the first has called, or has answered for a while', () => {
    const { identities, write, wait, probes } = open()
    write({ '10.0.0.7': [one], '10.0.0.8': [one] })
    const [first, second] = [connection('10.0.0.7', probes), connection('10.0.0.8')]
    identities.nameOf(first)
    wait(5)
    assert.equal(identities.nameOf(second), undefined)
    assert.equal(identities.isSecond(second), false)
    assert.equal(identities.isSecond(first), false)
    // The server asks the first machine for a sign only once.
    assert.deepEqual(probes, ['10.0.0.7'])
    // This call may have been on its way when the first machine lost its power.
    wait(0.5)
    identities.nameOf(first)
    assert.equal(identities.isSecond(second), false)
    wait(2)
    identities.nameOf(first)
    assert.equal(identities.isSecond(second), true)
    // It asks again after an hour: it may be the first machine, with another address.
    wait(3600)
    assert.equal(identities.nameOf(second), undefined)
    assert.equal(identities.isSecond(second), false)
    assert.equal(probes.length, 2)
    // The first machine makes no call, but its connection does not end.
    for (let seconds = 0; seconds <= 30; seconds += 5) {
      wait(5)
      assert.equal(identities.nameOf(second), undefined)
    }
    assert.equal(identities.isSecond(second), true)
    identities.leaves(first)
    assert.equal(identities.isSecond(second), false)
    assert.equal(identities.nameOf(second), one)
  })

  test('a datagram does not give a second machine the name of the first one', () => {
    const { identities, doubles, write } = open()
    write({ '10.0.0.7': [one], '10.0.0.8': [one] })
    const datagram = (address: string) => identities.nameOf({ address, transport: 'udp' })
    assert.equal(datagram('10.0.0.8'), one)
    identities.nameOf(connection('10.0.0.7'))
    assert.equal(datagram('10.0.0.7'), one)
    assert.equal(datagram('10.0.0.8'), undefined)
    assert.deepEqual(doubles, [`${one}: 10.0.0.7, 10.0.0.8`])
  })

  test('a machine that boots while another one with its hardware address works is refused', () => {
    const { identities, doubles, write, wait } = open()
    write({ '10.0.0.7': [one] })
    assert.equal(identities.isRunning(one), false)
    const first = connection('10.0.0.7')
    identities.nameOf(first)
    wait(100)
    // The first question: the machine itself may have started again.
    assert.equal(identities.isRunning(one), false)
    wait(4)
    identities.nameOf(first)
    assert.equal(identities.isRunning(one), true)
    assert.deepEqual(doubles, [`${one}: 10.0.0.7, undefined`])
    identities.leaves(first)
    assert.equal(identities.isRunning(one), false)
  })

  test('a machine that starts again and again at the same address is not refused', () => {
    const { identities, doubles, write, wait } = open()
    write({ '10.0.0.7': [one] })
    // No connection ends, as if the server never noticed that they are dead.
    for (let start = 0; start < 10; start++) {
      for (let question = 0; question < 3; question++) {
        assert.equal(identities.isRunning(one), false)
        wait(4)
      }
      const caller = connection('10.0.0.7')
      for (let call = 0; call < 5; call++) {
        assert.equal(identities.nameOf(caller), one)
        wait(3)
      }
    }
    assert.deepEqual(doubles, [])
  })

  test('a machine has its name at its new address, once nobody answers at the old one', async () => {
    const { identities, write } = open()
    write({ '10.0.0.7': [one], '10.0.0.8': [one] })
    const [first, second] = [connection('10.0.0.7'), connection('10.0.0.8')]
    identities.nameOf(first)
    assert.equal(identities.nameOf(second), undefined)
    // The kernel forgets who asks for nothing, and who may be there still.
    write({ '10.0.0.8': [one] })
    await nextTurn()
    assert.equal(identities.nameOf(second), undefined)
    write({ '10.0.0.7': [one, 0], '10.0.0.8': [one] })
    await nextTurn()
    assert.equal(identities.nameOf(second), one)
    // If it was only cut off, it waits like any other that comes second.
    assert.equal(identities.nameOf(first), undefined)
    assert.equal(identities.isConnected(one), true)
  })

  test('a connection that has ended gives its machine no name any more', async () => {
    const { identities, write } = open()
    const [early, late] = [connection('10.0.0.7'), connection('10.0.0.7')]
    // The first call waits until the name is known, and the connection ends meanwhile.
    assert.equal(identities.nameOf(early), undefined)
    identities.leaves(early)
    write({ '10.0.0.7': [one], '10.0.0.8': [one] })
    await nextTurn()
    assert.equal(identities.nameOf(early), undefined)
    identities.nameOf(late)
    identities.leaves(late)
    assert.equal(identities.nameOf(late), undefined)
    assert.equal(identities.isConnected(one), false)
    assert.equal(identities.nameOf(connection('10.0.0.8')), one)
  })
})

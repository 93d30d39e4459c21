// The connection that is closed if there are too many.

import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { createConnections } from '../../src/protocols/connections.ts'

const limits = { connections: 8, connectionsPerAddress: 4 }

/** @param machineOf the machine of an address; default: each address is another machine */
function open(
  isServed = (_name: string) => true,
  machineOf = (address: string) => address,
  isKnown = (_name: string) => false,
) {
  let now = 0
  const clientAt = (address: string) => {
    const name = machineOf(address)
    return { name, isServed: isServed(name) }
  }
  const connections = createConnections(limits, { clientAt, isKnown }, () => now++)
  const sockets: { name: string; socket: Socket }[] = []
  return {
    /** The name is the address and a number. */
    connect: (address: string, isUsed = true) => {
      const socket = new Socket()
      const before = sockets.filter(({ name }) => name.startsWith(`${address} `)).length
      sockets.push({ name: `${address} ${before + 1}`, socket })
      connections.add(socket, address)
      if (isUsed) connections.used(socket)
      return () => connections.used(socket)
    },
    wait: () => void (now += 10_000),
    ended: () => sockets.filter(({ socket }) => socket.destroyed).map(({ name }) => name),
  }
}

const machines = Array.from({ length: limits.connections }, (_, index) => `m${index}`)

suite('a connection too many', () => {
  test('closes an old one that was never used, of the client with the most of these', () => {
    const { connect, ended, wait } = open()
    for (const machine of machines.slice(0, 3)) connect(machine)
    // This machine uses many connections.
    connect('m0')
    connect('m0')
    connect('quiet', false)
    connect('flood', false)
    connect('flood', false)
    wait()
    for (const machine of ['new', 'newer', 'newest']) connect(machine)
    assert.deepEqual(ended(), ['quiet 1', 'flood 1', 'flood 2'])
  })

  test('closes one of a machine that nobody knows, so that one host with many addresses ends no boot', () => {
    const { connect, ended, wait } = open(undefined, undefined, (name) => name.startsWith('known'))
    const use = connect('known 1')
    connect('known 2')
    connect('known 2')
    wait()
    for (let invented = 0; invented < 100; invented++) connect(`invented ${invented}`)
    assert.equal(ended().length, 95)
    use()
    connect('known 3')
    assert.deepEqual([...new Set(ended().map((name) => name.split(' ')[0]))], ['invented'])
  })

  test('closes one of a known machine if all are known', () => {
    const { connect, ended } = open(undefined, undefined, (name) => name !== 'new')
    for (const machine of machines) connect(machine)
    connect('new')
    assert.deepEqual(ended(), ['m0 1'])
  })

  test('closes one of the client that has the most, even if it is in use, and not a new one', () => {
    const { connect, ended } = open()
    for (const machine of machines.slice(0, 5)) connect(machine)
    connect('newcomer', false)
    for (let count = 0; count < 20; count++) connect('flood')
    assert.deepEqual([...new Set(ended().map((name) => name.split(' ')[0]))], ['flood'])
    connect('m5', false)
    assert.equal(ended().filter((name) => !name.startsWith('flood ')).length, 0)
  })

  test('counts all addresses of one machine together', () => {
    const { connect, ended } = open(undefined, (address) => address.replace(/^flood.*/, 'flood'))
    for (const machine of ['m0', 'm0', 'm1']) connect(machine)
    for (let count = 0; count < 20; count++) connect(`flood${count}`)
    connect('m2', false)
    for (let count = 0; count < 20; count++) connect(`flood${count}`)
    assert.ok(ended().length > 20)
    assert.ok(ended().every((name) => name.startsWith('flood')))
  })

  test('of an unserved client never closes one of a served machine', () => {
    const { connect, ended } = open((address) => address.startsWith('m'))
    for (const machine of machines) connect(machine)
    for (let count = 0; count < 20; count++) connect('stranger')
    assert.deepEqual([...new Set(ended().map((name) => name.split(' ')[0]))], ['stranger'])
  })

  test('of a served machine closes one of an unserved client, even if that is in use', () => {
    const { connect, ended, wait } = open((address) => address.startsWith('m'))
    const isBusy = connect('stranger')
    for (const machine of machines.slice(1)) connect(machine, machine !== 'm1')
    wait()
    isBusy()
    connect('m0')
    assert.deepEqual(ended(), ['stranger 1'])
  })

  test('closes the one that was idle for longest, if each machine has one', () => {
    const { connect, ended } = open()
    const works = machines.map((machine) => connect(machine))
    works[0]?.()
    connect('one more')
    assert.deepEqual(ended(), ['m1 1'])
  })

  test('of a client at its own limit closes one of the same client', () => {
    const { connect, ended } = open()
    for (let count = 0; count < limits.connectionsPerAddress; count++) connect('m0')
    connect('m0')
    assert.deepEqual(ended(), ['m0 1'])
  })
})

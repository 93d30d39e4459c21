// The connection that is closed if there are too many.

import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { createConnections } from '../../src/protocols/connections.ts'

const limits = { connections: 8, connectionsPerAddress: 4 }

function open(isServed?: (address: string) => boolean) {
  const connections = createConnections(limits, isServed)
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
    ended: () => sockets.filter(({ socket }) => socket.destroyed).map(({ name }) => name),
  }
}

const machines = Array.from({ length: limits.connections }, (_, index) => `m${index}`)

suite('a connection too many', () => {
  test('closes one that was never used, of the client that has the most', () => {
    const { connect, ended } = open()
    for (const machine of machines.slice(0, 5)) connect(machine)
    connect('quiet', false)
    connect('flood', false)
    connect('flood', false)
    for (let count = 0; count < 20; count++) connect('flood', false)
    assert.ok(ended().every((name) => name.startsWith('flood ')))
    connect('new')
    connect('newer')
    connect('newest')
    assert.deepEqual(
      ended().filter((name) => !name.startsWith('flood ')),
      ['quiet 1'],
    )
  })

  test('of an unserved client never closes one of a served machine', () => {
    const { connect, ended } = open((address) => address.startsWith('m'))
    for (const machine of machines) connect(machine)
    for (let count = 0; count < 20; count++) connect('stranger')
    assert.deepEqual([...new Set(ended().map((name) => name.split(' ')[0]))], ['stranger'])
  })

  test('of a served machine closes one of an unserved client, even if that is in use', () => {
    const { connect, ended } = open((address) => address.startsWith('m'))
    const isBusy = connect('stranger')
    for (const machine of machines.slice(1)) connect(machine)
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

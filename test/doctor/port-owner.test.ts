import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import * as fc from 'fast-check'
import {
  ownersOf,
  socketsIn,
  unitIn,
  type PortOwner,
  type WantedPort,
} from '../../src/doctor/port-owner.ts'
import { stopping } from '../../src/doctor/ports.ts'
import { socketUnitsIn } from '../../src/doctor/socket-units.ts'

const wanted: WantedPort = { transport: 'tcp', port: 2049, address: '10.0.0.1' }

/** As Linux wrote it, with another address, port and state. */
const line = (local: string, state: string, inode: string) =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 100 0 0 10 0`
const heading =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'

suite('what stops the owner of a port', () => {
  const [dnsmasq, tftpd, init] = [
    { name: 'dnsmasq', pid: 41, unit: undefined },
    { name: 'in.tftpd', pid: 42, unit: 'tftp.service' },
    { name: 'systemd', pid: 1, unit: undefined },
  ]
  const stopped = (processes: PortOwner[], sockets: string[] = []) =>
    stopping({ processes, isKernelNfs: false, isPartial: false }, sockets)

  test('stops all that have it, and never process 1', () => {
    assert.equal(stopped([dnsmasq]), 'kill 41')
    assert.equal(stopped([tftpd, dnsmasq]), 'systemctl stop tftp.service && kill 41')
    assert.equal(stopped([init, tftpd], ['tftp.socket']), 'systemctl stop tftp.socket tftp.service')
    assert.equal(stopped([init]), undefined)
    // In a container.
    assert.equal(stopped([{ ...dnsmasq, pid: 1 }]), undefined)
  })

  test('stops rpcbind with its socket, also if process 1 cannot be seen', () => {
    const rpcbind = { name: 'rpcbind', pid: 43, unit: 'rpcbind.service' }
    const expected = 'systemctl stop rpcbind.socket rpcbind.service'
    assert.equal(stopped([rpcbind]), expected)
    assert.equal(stopped([init, rpcbind], ['rpcbind.socket']), expected)
  })

  test('is the socket of systemd with the port, kind and address', () => {
    // As systemctl of Debian 12 prints it.
    const text = `/run/systemd/journal/socket Stream   systemd-journald.socket systemd-journald.service
127.0.0.1:69                Datagram other.socket            other.service
[::]:69                     Stream   stream.socket           stream.service
[::]:69                     Datagram tftp.socket             tftp.service
10.0.0.1:69                 Datagram tftp.socket             tftp.service
[::]:6969                   Datagram more.socket             more.service
`
    const at = { transport: 'udp', port: 69, address: '10.0.0.1' } as const
    assert.deepEqual(socketUnitsIn(text, at), ['tftp.socket'])
    assert.deepEqual(socketUnitsIn(text, { ...at, transport: 'tcp' }), ['stream.socket'])
    assert.deepEqual(socketUnitsIn('[::]:69 Datagram a;reboot.socket', at), [])
  })
})

suite('the owner of a port', () => {
  for (const address of ['127.0.0.1', '0.0.0.0', '::']) {
    test(`is this process, if it listens on ${address}`, async () => {
      const server = createServer().listen(0, address)
      await once(server, 'listening')
      const socket = createSocket({ type: address === '::' ? 'udp6' : 'udp4' }).bind(0, address)
      await once(socket, 'listening')
      try {
        const bound = server.address()
        assert.ok(typeof bound === 'object' && bound)
        for (const [transport, port] of [
          ['tcp', bound.port],
          ['udp', socket.address().port],
        ] as const) {
          const owners = (of: string) => ownersOf({ transport, port, address: of }).processes
          const name = readFileSync('/proc/self/comm', 'utf8').trim()
          const [own, ...more] = owners('127.0.0.1')
          assert.deepEqual([own?.name, own?.pid, more.length], [name, process.pid, 0])
          const elsewhere = owners('127.0.0.2').length
          assert.equal(elsewhere, address === '127.0.0.1' ? 0 : 1)
        }
      } finally {
        server.close()
        socket.close()
      }
    })
  }

  test('is the kernel’s NFS server, if no process has the port and threads of nfsd run', () => {
    const proc = mkdtempSync(join(tmpdir(), 'netimage-proc-'))
    const addProcess = (pid: string, name: string, socket?: string) => {
      mkdirSync(join(proc, pid, 'fd'), { recursive: true })
      writeFileSync(join(proc, pid, 'comm'), `${name}\n`)
      if (socket) symlinkSync(`socket:[${socket}]`, join(proc, pid, 'fd', '3'))
    }
    try {
      mkdirSync(join(proc, 'net'))
      writeFileSync(join(proc, 'net/tcp'), `${heading}\n${line('00000000:0801', '0A', '77')}\n`)
      addProcess('9', 'other', '78')
      assert.equal(ownersOf(wanted, proc).isKernelNfs, false)
      addProcess('10', 'nfsd')
      assert.equal(ownersOf(wanted, proc).isKernelNfs, true)
      addProcess('11', 'ganesha.nfsd', '77')
      const { isKernelNfs, processes } = ownersOf(wanted, proc)
      assert.equal(isKernelNfs, false)
      assert.deepEqual(processes, [{ name: 'ganesha.nfsd', pid: 11, unit: undefined }])
    } finally {
      rmSync(proc, { recursive: true })
    }
  })

  test('is found by the unit of systemd', () => {
    assert.equal(unitIn('0::/system.slice/dnsmasq.service\n'), 'dnsmasq.service')
    assert.equal(unitIn('0::/system.slice/system-kea.slice/kea@a.service/x\n'), 'kea@a.service')
    assert.equal(unitIn('0::/system.slice/web.service/libpod-payload-1\n'), 'web.service')
    assert.equal(unitIn('4:memory:/x\n1:name=systemd:/system.slice/a.service\n'), 'a.service')
    assert.equal(unitIn('0::/user.slice/user-0.slice/session-1.scope\n'), undefined)
    assert.equal(unitIn('0::/system.slice/a b;reboot.service\n'), undefined)
  })

  test('has no unit that would stop more than the process', () => {
    const session = '0::/user.slice/user-1000.slice/user@1000.service'
    for (const cgroup of [
      `${session}/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope`,
      `${session}/app.slice/dnsmasq.service`,
      `${session}/init.scope`,
      session,
      // dnsmasq of a container, which has a systemd of its own.
      '0::/machine.slice/systemd-nspawn@a.service/payload/system.slice/dnsmasq.service',
      '0::/machine.slice/machine-a.scope/payload/system.slice/dnsmasq.service',
      '0::/lxc.payload.a/system.slice/dnsmasq.service',
      '0::/init.scope',
    ]) {
      assert.equal(unitIn(cgroup), undefined, cgroup)
    }
  })
})

test('only sockets that listen on the port take it, and no table is an error', () => {
  const table = [
    heading,
    line('0100000A:0801', '0A', '1'),
    line('0100000A:0801', '01', '2'),
    line('0200000A:0801', '0A', '3'),
    line('0100000A:0802', '0A', '4'),
    line('0000000000000000FFFF00000100000A:0801', '0A', '5'),
    line('00000000000000000000000000000000:0801', '0A', '6'),
    line('0100000A:0801', '0A', '0'),
  ]
  assert.deepEqual(socketsIn(table.join('\n'), wanted), ['1', '5', '6', '0'])
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom(...table))), (lines) => {
      const known = new Set(['0', '1', '5', '6'])
      const found = socketsIn(lines.join('\n'), wanted)
      assert.ok(found.every((inode) => known.has(inode)))
    }),
  )
})

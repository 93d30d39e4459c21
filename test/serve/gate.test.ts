// Attempts of machines, by the events of their boots, with the site on the disk.

import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { after, before, suite, test } from 'node:test'
import { NetimageError } from '../../src/errors.ts'
import { followBoots } from '../../src/boots/follow.ts'
import type { ServeEvent } from '../../src/protocols/event.ts'
import type { Caller } from '../../src/protocols/rpc/program.ts'
import { earlierBoots } from '../../src/serve/earlier-boots.ts'
import { createGate, type Gate } from '../../src/serve/gate.ts'
import type { Candidate } from '../../src/site/life/life.ts'
import { openSiteToRead, siteFile } from '../../src/site/database.ts'
import { openSite } from '../../src/site/site.ts'
import { netimageError } from '../support/errors.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { plainPartOf, plainRoot, plainSystem } from './support/plain-systems.ts'

const mac = 'dc:a6:32:00:00:01'
const address = '10.0.0.100'
const image = (name: string): Candidate => ({
  ...{ image: name, toplevel: `/nix/store/${name}`, blesses: false },
})

suite('the gate of boots', () => {
  let workspace: Workspace
  let count = 0
  before(() => (workspace = makeWorkspace('gate')))
  after(() => workspace.remove())

  function start(
    state = workspace.path(`state-${++count}`),
    now = 1_000_000,
    onSiteError: (error: NetimageError) => void = assert.ifError,
  ) {
    const connected = new Set<Caller>()
    const begun: string[] = []
    const site = openSite({ state, at: now, onTold: () => {}, onError: onSiteError })
    const errors: string[] = []
    const disk = { isFull: false }
    /** Errors with which the next generations fail to open. */
    const failures: NetimageError[] = []
    const activity = { isActive: false }
    const allowed = { isNamed: true }
    const watched: typeof site = {
      ...site,
      beginAttempt: async (...begin) => {
        if (disk.isFull) throw new NetimageError('disk-full', 'the disk is full')
        return await site.beginAttempt(...begin)
      },
      async asks(...asked) {
        if (disk.isFull) throw new NetimageError('disk-full', 'the disk is full')
        return await site.asks(...asked)
      },
    }
    const partOf = (_machine: string, file: string) => plainPartOf(file)
    const follower = followBoots({
      partOf,
      nameOf: (asked) => (asked === address ? mac : asked),
      isServed: () => true,
      mayForget: (machine) => !gate.hasAttempt(machine),
      isRoot: (path) => path === plainRoot,
      earlierBoots: earlierBoots([], site.interrupted),
    })
    const gate: Gate = createGate({
      ...{ site: watched, follower, partOf },
      onError: ({ code }) => void errors.push(code),
      defaultFor: () => image('default'),
      findGone: () => Promise.resolve(new Set()),
      open(_machine, { generation }) {
        const failure = failures.shift()
        if (failure) return Promise.reject(failure)
        return Promise.resolve(plainSystem(generation.image))
      },
      openDefault: (candidate) => Promise.resolve(plainSystem(candidate.image)),
      isNamed: () => allowed.isNamed,
      isConnected: (_machine, besides) => [...connected].some((each) => each !== besides),
      isActive: () => activity.isActive,
      onBegin: (machine) => begun.push(machine),
      now: () => now,
    })
    return {
      ...{ state, site, gate, connected, begun, errors, disk, failures, activity, allowed },
      wait: (ms: number) => void (now += ms),
      /** The machine has acknowledged what it got. */
      acknowledges: (event: ServeEvent) => gate.comes(follower.see(event, now), event),
      /** What the machine boots, as image and number of the attempt. */
      boots: async (events: readonly ServeEvent[], caller?: Caller) => {
        const seen: string[] = []
        for (const event of events) {
          now += 2000
          const booted = await gate.enter(event.mac ?? mac, event, caller)
          follower.see(event, now)
          seen.push(`${booted?.system.image.id} ${booted?.attempt}`)
        }
        return [...new Set(seen)]
      },
    }
  }

  const discover = { kind: 'dhcp', step: 'discover', proxy: false, architecture: 0, mac } as const
  const file = (name: string) =>
    ({ kind: 'tftp', step: 'begin', file: name, bytes: 0, address }) as const
  const mount = { kind: 'nfs', step: 'mount', path: plainRoot, address } as const
  const ipxe = [
    ...[discover, discover, discover, file('boot.ipxe'), discover, file('boot.ipxe')],
    ...[file('kernel'), file('initrd'), mount],
  ]

  test('begins one attempt a boot, however often firmware asks DHCP and for files', async () => {
    const { boots, site, gate } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots(ipxe)
    await site.assign(mac, image('b'), 0, 'person')
    assert.deepEqual(await boots([mount]), ['a 1'])
    assert.deepEqual(await boots(ipxe), ['b 2'])
    const pi = [discover, ...Array<ServeEvent>(4).fill(file('start4.elf')), file('kernel8.img')]
    assert.deepEqual(await boots([...pi, file('initrd'), mount]), ['b 3'])
    assert.deepEqual(
      site
        .lifeOf(mac)
        .attempts.map(({ outcome }) => outcome)
        .slice(-1),
      ['running'],
    )
    assert.equal(typeof gate.now(mac), 'object')
  })

  test('begins an attempt when firmware fetches its first file again after a kernel', async () => {
    const { boots, wait } = start()
    const pi = [
      ...Array<ServeEvent>(4).fill(file('start4.elf')),
      ...[file('config.txt'), file('kernel8.img'), file('config.txt'), file('initrd')],
    ]
    assert.deepEqual(await boots(pi), ['default 1'])
    // With another DHCP server, nothing else tells that the machine has crashed and starts again.
    assert.deepEqual(await boots(pi), ['default 2'])
    assert.deepEqual(await boots([...pi, mount]), ['default 3'])
    wait(1000)
    assert.deepEqual(await boots([file('start4.elf'), file('start4.elf')]), ['default 4'])
  })

  test('begins no attempt when a Raspberry Pi that read its settings first reads them again', async () => {
    const { boots } = start()
    const pi = [file('config.txt'), file('kernel8.img'), file('config.txt'), file('initrd')]
    assert.deepEqual(await boots([...pi, file('config.txt'), mount]), ['default 1'])
  })

  test('remembers no machine that only asks DHCP', async () => {
    const { boots, site, begun } = start()
    const invented = { ...discover, mac: '52:54:00:ff:ff:ff' }
    assert.deepEqual(await boots([invented, invented]), ['default undefined'])
    assert.deepEqual(site.lifeOf(invented.mac).attempts, [])
    assert.deepEqual(begun, [])
    assert.deepEqual(await boots([discover, file('boot.ipxe')]), ['default undefined', 'default 1'])
    assert.deepEqual(begun, [mac])
  })

  test('remembers no machine of which one datagram tells, until the machine acknowledges it', async () => {
    const { boots, acknowledges, site, allowed, begun } = start()
    allowed.isNamed = false
    assert.deepEqual(await boots([file('boot.ipxe'), file('boot.ipxe')]), ['default undefined'])
    assert.deepEqual([site.lifeOf(mac).attempts, begun], [[], []])
    assert.deepEqual(await boots([{ ...mount, transport: 'udp' }]), ['default undefined'])
    assert.deepEqual([site.lifeOf(mac).attempts, begun], [[], []])
    acknowledges(file('boot.ipxe'))
    acknowledges(file('boot.ipxe'))
    assert.deepEqual(begun, [mac])
    assert.deepEqual(await boots([file('kernel'), mount]), ['default 1'])
    assert.equal(site.lifeOf(mac).attempts.length, 1)
  })

  test('remembers no machine that asks HTTP for what is not there, until it asks for a boot file', async () => {
    const { boots, site, allowed, begun, disk } = start()
    allowed.isNamed = false
    const asks = (name: string) => ({ ...file(name), kind: 'http' }) as const
    assert.deepEqual(await boots([asks('favicon.ico')]), ['default undefined'])
    assert.deepEqual([site.lifeOf(mac).attempts, begun], [[], []])
    // The attempt is on the disk before the machine gets the first byte.
    disk.isFull = true
    await assert.rejects(boots([asks('boot.ipxe')]), netimageError('disk-full'))
    disk.isFull = false
    assert.deepEqual(await boots([asks('boot.ipxe'), asks('kernel'), mount]), ['default 1'])
    assert.equal(site.lifeOf(mac).attempts.length, 1)
  })

  test('begins one attempt if a machine that the site does not know asks HTTP for two boot files at once', async () => {
    const { boots, gate, site, allowed, begun } = start()
    allowed.isNamed = false
    const asks = (name: string) => ({ ...file(name), kind: 'http' }) as const
    const both = [asks('kernel'), asks('initrd')].map((event) => gate.enter(mac, event))
    assert.deepEqual(
      (await Promise.all(both)).map((booted) => booted?.attempt),
      [1, 1],
    )
    assert.deepEqual(begun, [mac])
    assert.deepEqual(await boots([asks('kernel'), mount]), ['default 1'])
    assert.equal(site.lifeOf(mac).attempts.length, 1)
  })

  test('begins an attempt with the first datagram if a person named or gave something to the machine', async () => {
    const named = start()
    assert.deepEqual(await named.boots([file('boot.ipxe')]), ['default 1'])
    assert.deepEqual(await start().boots([{ ...mount, transport: 'udp' }]), ['default 1'])
    const assigned = start()
    assigned.allowed.isNamed = false
    await assigned.site.assign(mac, image('a'), 0, 'person')
    assert.deepEqual(await assigned.boots([file('boot.ipxe')]), ['a 1'])
  })

  test('keeps what a machine boots, however many others are invented meanwhile', async () => {
    const { boots, site, gate } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots([discover, file('boot.ipxe'), file('kernel')])
    await site.assign(mac, image('b'), 0, 'person')
    const invented = Array.from({ length: 4200 }, (_, number) => ({
      ...discover,
      mac: `52:54:00:00:${[number >> 8, number & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`,
    }))
    await boots(invented)
    assert.ok(gate.hasAttempt(mac))
    assert.deepEqual(await boots([file('initrd'), mount]), ['a 1'])
    assert.equal(site.lifeOf(mac).attempts[0]?.outcome, 'running')
  })

  test('gives a machine what was assigned to it before its first boot, from DHCP on', async () => {
    const { boots, site } = start()
    await site.assign(mac, image('a'), 0, 'person')
    assert.deepEqual(await boots(ipxe), ['a 1'])
  })

  test('gives a machine that only asked DHCP what was chosen since then', async () => {
    const { state, boots, site } = start()
    await site.assign(mac, image('a'), 0, 'person')
    assert.deepEqual(await boots([discover, discover]), ['a 1'])
    await site.assign(mac, image('b'), 0, 'person')
    assert.deepEqual(await boots([discover, discover]), ['b 2'])
    for (let minutes = 1; minutes <= 20; minutes++) site.tick(2_000_000 + minutes * 60_000)
    assert.deepEqual(
      site.lifeOf(mac).attempts.map(({ outcome }) => outcome),
      ['void', 'running'],
    )
    site.close(0)
    const second = start(state)
    assert.deepEqual(await second.boots([discover, file('boot.ipxe')]), ['b 3'])
    await second.site.assign(mac, image('c'), 0, 'person')
    assert.deepEqual(await second.boots([discover, file('kernel'), mount]), ['b 3'])
  })

  for (const all of [[file('boot.ipxe'), file('kernel'), mount], [mount]]) {
    test(`gives a machine that has only asked DHCP all of what was chosen since, from its first ${all[0]?.kind} on`, async () => {
      const { boots, site } = start()
      await site.assign(mac, image('a'), 0, 'person')
      assert.deepEqual(await boots([discover]), ['a 1'])
      await site.assign(mac, image('b'), 0, 'person')
      assert.deepEqual(await boots(all), ['b 2'])
      assert.deepEqual(
        site.lifeOf(mac).attempts.map(({ outcome, hasAsked }) => [outcome, hasAsked]),
        [
          ['void', undefined],
          ['running', true],
        ],
      )
      // From then on, it goes on with what it has begun.
      await site.assign(mac, image('c'), 0, 'person')
      assert.deepEqual(await boots([mount]), ['b 2'])
    })
  }

  test('begins one attempt if something else was chosen before two first files at once', async () => {
    const { boots, site, gate, begun } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots([discover])
    await site.assign(mac, image('b'), 0, 'person')
    const both = [file('boot.ipxe'), file('kernel')].map((each) => gate.enter(mac, each))
    assert.equal(gate.now(mac), 'busy')
    const booted = await Promise.all(both)
    assert.deepEqual(
      booted.map((each) => each?.attempt),
      [2, 2],
    )
    assert.equal(begun.length, 2)
  })

  test('lets other processes know that a machine asks before it gets its first file', async () => {
    const { state, boots, site } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots([discover, file('boot.ipxe')])
    const other = openSiteToRead(state) ?? assert.fail()
    assert.equal(other.lifeOf(mac).attempts[0]?.hasAsked, true)
    other.close()
  })

  test('lets only a good generation go on with its first file if the disk is full', async () => {
    const { boots, site, errors, disk } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots([discover])
    disk.isFull = true
    await assert.rejects(boots([file('boot.ipxe')]), netimageError('disk-full'))
    disk.isFull = false
    await boots([file('boot.ipxe'), mount])
    site.sign(mac, { kind: 'step', step: 'init' }, 2_000_000)
    for (let minutes = 1; minutes <= 3; minutes++) site.tick(2_000_000 + minutes * 60_000)
    await boots([discover])
    disk.isFull = true
    assert.deepEqual(await boots([file('boot.ipxe'), file('kernel')]), ['a 2'])
    assert.deepEqual(errors, ['disk-full'])
  })

  for (const [what, event] of [
    ['a file that its image may lack', file('missing')],
    ['what DHCP has no file for', discover],
  ] as const) {
    test(`lets the time of a trial count if the machine asks for ${what}`, async () => {
      const { boots, site, gate } = start()
      await site.assign(mac, image('a'), 0, 'person')
      await boots([event])
      if (event.kind === 'dhcp') gate.lacksFile(mac)
      for (let minutes = 0; minutes <= 10; minutes++) site.tick(2_000_000 + minutes * 60_000)
      assert.equal(site.lifeOf(mac).generations[0]?.verdict, 'bad')
    })
  }

  test('lets only a good generation boot if the disk is full', async () => {
    const { boots, site, gate, errors, disk } = start()
    disk.isFull = true
    await assert.rejects(boots(ipxe), netimageError('disk-full', {}))
    disk.isFull = false
    await boots(ipxe)
    site.sign(mac, { kind: 'step', step: 'init' }, 2_000_000)
    for (let minutes = 1; minutes <= 3; minutes++) site.tick(2_000_000 + minutes * 60_000)
    assert.equal(site.lifeOf(mac).lastGood, 1)
    await site.assign(mac, image('b'), 0, 'person')
    disk.isFull = true
    const unrecorded = () => {
      const booted = gate.now(mac)
      return typeof booted === 'object' ? booted.unrecorded : undefined
    }
    assert.equal(unrecorded(), undefined)
    assert.deepEqual(await boots(ipxe), ['default 1'])
    assert.deepEqual(errors, ['disk-full'])
    // The layer is bound anew for each start.
    const first = unrecorded()
    assert.ok(first !== undefined)
    await boots(ipxe)
    assert.notEqual(unrecorded(), first)
  })

  test('begins again if the attempt could not be written', async () => {
    const { boots, site, disk } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots(ipxe)
    await site.assign(mac, image('b'), 0, 'person')
    disk.isFull = true
    await assert.rejects(boots([discover]), netimageError('disk-full', {}))
    disk.isFull = false
    assert.deepEqual(await boots([discover, ...ipxe]), ['b 2'])
  })

  test('lets a machine wait whose row in the database is broken', async () => {
    const first = start()
    await first.boots(ipxe)
    first.site.close(0)
    const database = new DatabaseSync(siteFile(first.state))
    database.exec("UPDATE generations SET generation = '{'")
    database.close()
    const { gate, errors, boots, acknowledges } = start(first.state, undefined, () => {})
    assert.equal(gate.now(mac), 'busy')
    acknowledges(file('boot.ipxe'))
    await assert.rejects(boots([discover]), netimageError('bad-state'))
    assert.deepEqual(errors, ['bad-state', 'bad-state'])
  })

  /** The image a is good, and the next boot tries b. */
  async function onTrial() {
    const started = start()
    const { boots, site } = started
    await site.assign(mac, image('a'), 0, 'person')
    await boots(ipxe)
    site.sign(mac, { kind: 'step', step: 'init' }, 2_000_000)
    for (let minutes = 1; minutes <= 3; minutes++) site.tick(2_000_000 + minutes * 60_000)
    await site.assign(mac, image('b'), 0, 'person')
    return started
  }

  suite('if a generation cannot be opened', () => {
    const pi = Array<ServeEvent>(4).fill(file('start4.elf'))
    const damaged = new NetimageError('image-damaged', 'the manifest has changed')
    const failsFourTimes = async (
      { boots, failures }: ReturnType<typeof start>,
      failure: NetimageError,
    ) => {
      for (const event of pi) {
        failures.push(failure)
        await assert.rejects(boots([event]), netimageError(failure.code, {}))
      }
    }

    test('because the server lacks something, opens the same attempt again', async () => {
      const started = await onTrial()
      await failsFourTimes(started, new NetimageError('in-use', 'somebody holds the image'))
      assert.deepEqual(await started.boots([...pi, file('kernel8.img'), mount]), ['b 2'])
      assert.equal(started.site.lifeOf(mac).generations[1]?.verdict, 'trial')
    })

    for (const [what, event] of [
      ['boot files', file('start4.elf')],
      ['an address', discover],
    ] as const) {
      test(`for ten minutes in which the machine asks for ${what}, goes back`, async () => {
        const { boots, site, failures } = await onTrial()
        failures.push(new NetimageError('file-system', 'the disk fails'))
        await assert.rejects(boots([event]), netimageError('file-system', {}))
        for (let minutes = 0; minutes <= 10; minutes++) site.tick(3_000_000 + minutes * 60_000)
        const [, trial] = site.lifeOf(mac).generations
        assert.equal(trial?.verdict, 'bad')
        assert.match(trial.reason ?? '', /without another sign \(the disk fails\)$/)
        assert.deepEqual(await boots([...pi, mount]), ['a 3'])
      })
    }

    test('begins another attempt if a person chose another generation meanwhile', async () => {
      const started = await onTrial()
      await failsFourTimes(started, new NetimageError('file-system', 'the disk fails'))
      await started.site.assign(mac, image('c'), 0, 'person')
      assert.deepEqual(await started.boots([...pi, mount]), ['c 3'])
    })

    test('because it is damaged, goes back after three attempts', async () => {
      const started = await onTrial()
      started.failures.push(damaged, damaged, damaged)
      for (const event of pi.slice(0, 3)) {
        await assert.rejects(started.boots([event]), netimageError('image-damaged', {}))
      }
      assert.deepEqual(await started.boots([...pi, mount]), ['a 5'])
      assert.match(
        started.site.lifeOf(mac).generations[1]?.reason ?? '',
        /^it started again 3 times, the last time without another sign \(the manifest has changed\)$/,
      )
    })
  })

  test('begins another attempt when a trial is bad, although the machine comes only to its loader', async () => {
    const { boots, site, wait } = start()
    await site.assign(mac, image('a'), 0, 'person')
    await boots(ipxe)
    site.sign(mac, { kind: 'step', step: 'init' }, 2_000_000)
    for (let minutes = 1; minutes <= 3; minutes++) site.tick(2_000_000 + minutes * 60_000)
    await site.assign(mac, image('b'), 0, 'person')
    const loader = [discover, file('boot.ipxe')]
    assert.deepEqual(await boots([...loader, ...loader, ...loader]), ['b 2'])
    for (let minutes = 1; minutes <= 11; minutes++) site.tick(3_000_000 + minutes * 60_000)
    assert.equal(site.lifeOf(mac).generations[1]?.verdict, 'bad')
    assert.deepEqual(await boots(loader), ['a 3'])
    // And without a verdict, if the machine was silent for long: its power was switched.
    await site.assign(mac, image('c'), 0, 'person')
    wait(120_000)
    assert.deepEqual(await boots(loader), ['c 4'])
  })

  async function onFailingTrial() {
    const started = await onTrial()
    const { site } = started
    return {
      ...started,
      fails: () => {
        for (let minutes = 1; minutes <= 11; minutes++) site.tick(3_000_000 + minutes * 60_000)
        assert.equal(site.lifeOf(mac).generations[1]?.verdict, 'bad')
      },
    }
  }

  for (const [what, first] of [
    ['files of its loader', ['start4.elf', 'fixup4.dat', 'config.txt', 'kernel8.img']],
    ['its settings first', ['config.txt', 'start4.elf', 'fixup4.dat', 'config.txt', 'kernel8.img']],
    ['its kernel first', ['kernel']],
  ] as const) {
    test(`keeps a machine that fetches ${what} in an attempt that fails while it boots`, async () => {
      const names: readonly string[] = first
      const isFirst = (name: string) => name === names.find((each) => each !== 'config.txt')
      for (let fetched = 1; fetched <= names.length; fetched++) {
        const { boots, fails } = await onFailingTrial()
        assert.deepEqual(await boots(names.slice(0, fetched).map(file)), ['b 2'])
        fails()
        const rest = [...names.slice(fetched), 'initrd']
        const expected = rest.some(isFirst) ? ['a 3'] : ['b 2']
        assert.deepEqual(await boots([...rest.map(file), mount]), expected, names[fetched - 1])
      }
      for (const until of [names.length, names.length + 1]) {
        const { boots, fails } = await onFailingTrial()
        await boots([...names, 'initrd'].slice(0, until).map(file))
        fails()
        const again = names.slice(names.findIndex(isFirst))
        const next = [...again, 'initrd'].map(file)
        assert.deepEqual(await boots([...next, mount]), ['a 3'], `started again after ${until}`)
      }
    })
  }

  test('goes on if a program of a running machine fetches a boot file', async () => {
    const { boots, site, activity, begun } = start()
    await boots(ipxe)
    await site.assign(mac, image('b'), 0, 'person')
    activity.isActive = true
    assert.deepEqual(await boots([file('boot.ipxe'), file('kernel')]), ['default 1'])
    assert.deepEqual(begun, [mac])
    activity.isActive = false
    assert.deepEqual(await boots([discover, file('boot.ipxe')]), ['b 2'])
  })

  test('goes on in an attempt after a restart of the server', async () => {
    const first = start()
    await first.boots(ipxe)
    first.site.close(0)
    const second = start(first.state, 1_100_000)
    await second.site.assign(mac, image('b'), 0, 'person')
    assert.equal(second.gate.now(mac), 'busy')
    await new Promise((resolve) => setImmediate(resolve))
    const booted = second.gate.now(mac)
    assert.ok(typeof booted === 'object')
    assert.equal(booted.attempt, 1)
    assert.deepEqual(await second.boots(ipxe), ['b 2'])
  })

  test('goes on in an attempt that cannot be opened for a moment after a restart of the server', async () => {
    const first = start()
    await first.site.assign(mac, image('a'), 0, 'person')
    assert.deepEqual(await first.boots([discover, file('boot.ipxe'), file('kernel')]), ['a 1'])
    await first.site.assign(mac, image('b'), 0, 'person')
    first.site.close(0)
    const second = start(first.state, 1_100_000)
    const inUse = new NetimageError('in-use', 'somebody holds the image')
    second.failures.push(inUse, inUse, inUse)
    for (const event of [file('initrd'), mount])
      await assert.rejects(second.boots([event]), netimageError('in-use', {}))
    assert.deepEqual(await second.boots([file('initrd'), mount]), ['a 1'])
    assert.deepEqual(await second.boots(ipxe), ['b 2'])
  })

  test('begins an attempt with a mount only if the machine has no other connection', async () => {
    const { boots, connected } = start()
    const [old, next]: Caller[] = [
      { address, transport: 'tcp' },
      { address, transport: 'tcp' },
    ]
    const init = { kind: 'root', step: 'init', address } as const
    connected.add(old!)
    assert.deepEqual(await boots([mount, init], old), ['default 1'])
    connected.add(next!)
    assert.deepEqual(await boots([mount, init], next), ['default 1'])
    connected.delete(old!)
    assert.deepEqual(await boots([mount, init], next), ['default 2'])
  })
})

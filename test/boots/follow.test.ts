import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { sharedPath } from '../../src/boot/boot-files.ts'
import { bootParts, type BootPart } from '../../src/boots/boot-parts.ts'
import { followBoots, stallOf, type Boot } from '../../src/boots/follow.ts'
import { bootSteps } from '../../src/boots/step.ts'
import type { DhcpEvent, ServeEvent } from '../../src/protocols/event.ts'

const mac = '52:54:00:00:00:01'
const address = '10.0.0.100'
const parts = new Map<string, BootPart>([
  ['boot.ipxe', 'loader'],
  ['board.dtb', 'loader'],
  ['nixos/kernel', 'kernel'],
  ['nixos/initrd', 'initrd'],
  ['bootx64.efi', 'unified'],
])

/** The machine that DHCP gave the address to, as the servers know it. */
const nameOfAll = (asked: string) => (asked === address ? mac : asked)

function follow(
  nameOf = nameOfAll,
  earlierBoots: readonly Boot[] = [],
  partOf = (name: string) => parts.get(name),
) {
  return followBoots({
    earlierBoots,
    partOf: (_, name) => partOf(name),
    nameOf,
    isServed: () => true,
    isRoot: (path) => path.startsWith('/srv'),
  })
}

function all(events: ServeEvent[], follower = follow()): Boot[] {
  return events.map((event, index) => structuredClone(follower.see(event, index * 1000)))
}

const firmware = { kind: 'dhcp', proxy: false, architecture: 0, mac } as const
const file = (name: string, step: 'begin' | 'end' = 'begin') =>
  ({ kind: 'tftp', step, file: name, bytes: step === 'end' ? 100 : 0, address }) as const

/** BIOS, iPXE, script, kernel and initrd, a DHCP client in the initrd, root. */
const wholeBoot: ServeEvent[] = [
  { ...firmware, step: 'discover', vendorClass: 'PXEClient:Arch:00000:UNDI:002001' },
  { ...firmware, step: 'acknowledge', address },
  file('boot.ipxe'),
  file('boot.ipxe', 'end'),
  { ...firmware, step: 'discover', userClass: 'iPXE' },
  file('nixos/kernel'),
  file('nixos/kernel', 'end'),
  file('nixos/initrd'),
  file('nixos/initrd', 'end'),
  { kind: 'dhcp', step: 'discover', proxy: false, mac },
  { kind: 'dhcp', step: 'acknowledge', proxy: false, mac, address },
  { kind: 'nfs', step: 'mount', path: '/srv/nixos', address },
  { kind: 'root', step: 'init', address },
  { kind: 'root', step: 'registered', address },
]

suite('boots, followed by the events of the servers', () => {
  test('a whole boot is one boot with all steps in their order', () => {
    const boots = all(wholeBoot)
    const last = boots.at(-1)
    assert.equal(last?.step, 'registered')
    assert.deepEqual(Object.keys(last.steps), [...bootSteps])
    assert.equal(last.machine, mac)
    assert.equal(last.bytes, 300)
    assert.deepEqual(new Set(boots.map(({ started }) => started)), new Set([0]))
  })

  test('a Raspberry Pi that starts U-Boot and iPXE, which ask DHCP again, boots once', () => {
    const hash = '1'.repeat(32)
    const stored = (name: string) => `/nix/store/${hash}-${name}`
    const [kernel, initrd] = [stored('linux/Image'), stored('initrd/initrd')]
    const shared = [kernel, initrd].map((path) => sharedPath(path))
    const tree = ['config.txt', 'start4.elf', 'u-boot.bin', 'kernel8.img', 'initrd', 'cmdline.txt']
    const paths = [...tree, 'ipxe-arm64.efi', 'boot.ipxe', ...shared]
    const partOf = bootParts({
      system: {
        ...{ toplevel: stored('nixos-system'), label: '25.11', platform: 'aarch64-linux' },
        entries: [{ label: '25.11', kernel, initrd, init: stored('init'), kernelParams: [] }],
        fileSystems: [],
      },
      boot: {
        files: paths.map((path) => ({ path, type: 'file', mode: '644', size: 1, sha256: '' })),
      },
    })
    const dhcp = (architecture: number, more: Partial<DhcpEvent> = {}): ServeEvent => ({
      ...{ kind: 'dhcp', step: 'discover', proxy: false, mac, architecture, ...more },
    })
    const pi: ServeEvent[] = [
      dhcp(0, { vendorClass: 'PXEClient:Arch:00000:UNDI:002001' }),
      ...['config.txt', 'start4.elf', 'config.txt', 'u-boot.bin'].map((name) => file(name)),
      dhcp(22, { vendorClass: 'U-Boot.armv8' }),
      dhcp(11, { vendorClass: 'PXEClient:Arch:00011:UNDI:003000' }),
      file('ipxe-arm64.efi'),
      dhcp(11, { userClass: 'iPXE' }),
      ...['boot.ipxe', ...shared].map((name) => ({ ...file(`/${name}`), kind: 'http' as const })),
      ...wholeBoot.slice(-5),
    ]
    const follower = follow(nameOfAll, [], (name) => partOf(name))
    const boots = all([...pi, ...pi], follower)
    assert.deepEqual(
      boots.map(({ started }) => started),
      [...pi.map(() => 0), ...pi.map(() => pi.length * 1000)],
    )
    assert.deepEqual(Object.keys(boots.at(-1)?.steps ?? {}), [...bootSteps])
  })

  test('a machine that restarts begins another boot, but its initrd does not', () => {
    const boots = all([...wholeBoot, ...wholeBoot])
    assert.equal(new Set(boots.map(({ started }) => started)).size, 2)
    assert.equal(boots.at(-1)?.started, wholeBoot.length * 1000)
  })

  test('a boot that an earlier run of the server saw goes on, and hangs only once it was seen', () => {
    const initrd = wholeBoot.slice(0, 9)
    const [before] = all(initrd).slice(-1)
    assert.ok(before)
    const follower = follow(nameOfAll, [before])
    const [known] = follower.boots()
    assert.ok(known?.isFromBefore)
    assert.equal(stallOf(known, 1e9), undefined)
    const mounted = follower.see(
      { kind: 'nfs', step: 'mount', path: '/srv/nixos', address },
      60_000,
    )
    assert.equal(mounted.started, before.started)
    assert.equal(mounted.isFromBefore, undefined)
    assert.equal(stallOf(mounted, 1e9)?.next, 'the machine reads its init')
    assert.equal(follower.see({ ...firmware, step: 'discover' }, 120_000).started, 120_000)
    assert.equal(follower.boots().length, 1)
  })

  test('with proxyDHCP the address is known from this machine’s neighbours', () => {
    const offered: ServeEvent = { ...firmware, proxy: true, step: 'offer' }
    const follower = follow()
    assert.equal(all([offered, file('bootx64.efi')], follower).at(-1)?.machine, mac)
    assert.equal(follower.boots().length, 1)
  })

  test('a unified kernel image is kernel and initrd', () => {
    const [, begun, ended] = all([
      { ...firmware, step: 'discover' },
      { ...file('bootx64.efi'), mac },
      { ...file('bootx64.efi', 'end'), mac },
    ])
    assert.equal(begun?.step, 'kernel')
    assert.equal(ended?.step, 'initrd')
  })

  test('the boot of a machine without firmware begins with its mount', () => {
    const mount: ServeEvent = { kind: 'nfs', step: 'mount', path: '/srv', address }
    const boots = all([mount, { kind: 'root', step: 'init', address }, mount])
    assert.deepEqual(boots[1]?.steps, { mount: 0, init: 1000 })
    assert.equal(boots[2]?.started, 2000)
  })

  test('a problem is shown until the machine reaches the next step', () => {
    const missing: ServeEvent = { ...file('nixos/other'), step: 'missing' }
    const [, wrong, right] = all([
      { ...firmware, step: 'acknowledge', address },
      missing,
      file('boot.ipxe'),
    ])
    assert.match(wrong?.trouble ?? '', /nixos\/other: there is no such file/)
    assert.equal(right?.trouble, undefined)
  })

  test('a machine without any sign hangs, and the expected next thing is named', () => {
    const boot = all(wholeBoot.slice(0, 9)).at(-1)
    assert.ok(boot)
    assert.equal(stallOf(boot, 9000 + 60_000), undefined)
    assert.match(stallOf(boot, 9000 + 100_000)?.next ?? '', /mounts the root/)
  })

  test('a machine that still receives its kernel does not hang, even if that takes long', () => {
    const boots = all(wholeBoot.slice(0, 7))
    const [sending, sent] = boots.slice(-2)
    assert.ok(sending && sent)
    assert.equal(sending.sending, 1)
    assert.equal(stallOf(sending, 600_000), undefined)
    assert.equal(sent.sending, undefined)
    assert.match(stallOf(sent, 600_000)?.next ?? '', /asks for the initrd/)
    const failed: ServeEvent = { ...file('nixos/kernel'), step: 'fail' }
    assert.equal(all([...wholeBoot.slice(0, 6), failed]).at(-1)?.sending, undefined)
  })

  test('a machine that only wants an address is not expected to boot', () => {
    const system = { kind: 'dhcp', proxy: false, mac, address } as const
    const [laptop] = all([{ ...system, step: 'acknowledge' }])
    const [machine] = all([{ ...system, step: 'acknowledge', architecture: 7 }])
    assert.ok(laptop && machine)
    assert.equal(stallOf(laptop, 600_000), undefined)
    assert.match(stallOf(machine, 600_000)?.next ?? '', /asks for its boot file/)
  })

  test('a machine that is up and mounts another path has not begun another boot', () => {
    const mount = { kind: 'nfs', step: 'mount', address } as const
    const [...boots] = all([
      ...wholeBoot,
      { ...mount, path: '/else' },
      { ...mount, path: '/srv/nixos' },
    ])
    const [registered, more, anew] = boots.slice(-3)
    assert.equal(registered?.started, more?.started)
    assert.notEqual(more?.started, anew?.started)
  })

  test('a loader that comes back after a long silence has begun another boot', () => {
    const follower = follow()
    const events = wholeBoot.slice(0, 9)
    const started = (event: ServeEvent, at: number) => follower.see(event, at).started
    assert.deepEqual(new Set(events.map((event, index) => started(event, index))), new Set([0]))
    // Some loaders fetch small files after the initrd.
    assert.equal(started(file('board.dtb'), 10_000), 0)
    assert.equal(started(file('board.dtb'), 3_600_000), 3_600_000)
  })

  test('boots that seem to begin again within a second are one boot', () => {
    const follower = follow()
    const events = [file('boot.ipxe'), wholeBoot.find(({ kind }) => kind === 'nfs')]
    const starts = Array.from({ length: 100 }, (_, index) => {
      const event = events[index % 2]
      return event && follower.see(event, 5000 + index).started
    })
    assert.deepEqual(new Set(starts), new Set([5000]))
    assert.equal(follower.see(file('boot.ipxe'), 6000).started, 6000)
  })

  test('a boot can begin within a second after one that an earlier run of the server saw', () => {
    const [before] = all(wholeBoot.slice(0, 12)).slice(-1)
    assert.equal(before?.step, 'mount')
    const follower = follow(nameOfAll, [{ ...before, started: 11_000 }])
    const [mount] = wholeBoot.slice(11)
    assert.ok(mount)
    assert.equal(follower.bootOf(mount, 11_100).started, 11_000)
    assert.equal(follower.see(file('boot.ipxe'), 11_200).started, 11_200)
    assert.equal(follower.see(mount, 11_300).started, 11_200)
    assert.equal(follower.see(file('boot.ipxe'), 11_400).started, 11_200)
  })

  test('a machine that is up never hangs', () => {
    const boot = all(wholeBoot).at(-1)
    assert.ok(boot)
    assert.equal(stallOf(boot, Number.MAX_SAFE_INTEGER), undefined)
  })

  test('steps only go forward within a boot, whatever events come', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...wholeBoot), { maxLength: 60 }), (events) => {
        const boots = all(events)
        for (const [index, boot] of boots.entries()) {
          const before = boots[index - 1]
          if (before?.started !== boot.started) continue
          assert.ok(bootSteps.indexOf(boot.step) >= bootSteps.indexOf(before.step))
        }
      }),
    )
  })

  test('an endless number of machines does not fill the memory', () => {
    const follower = follow()
    for (let index = 0; index < 20_000; index++) {
      follower.see({ ...firmware, step: 'discover', mac: `machine ${index}` }, index)
    }
    assert.equal(follower.boots().length, 4096)
  })
})

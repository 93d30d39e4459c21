import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { findLoaders } from '../../../src/boot/loaders.ts'
import type { UefiProcessor } from '../../../src/firmware.ts'
import { bootFields } from '../../../src/protocols/dhcp/boot-fields.ts'
import { machineOf } from '../../../src/protocols/dhcp/machine.ts'
import { decodePacket } from '../../../src/protocols/dhcp/packet.ts'
import { bootAnswer } from '../../../src/serve/boot-answer.ts'
import { ipxeDiscover } from './captured.ts'

const server = '10.0.0.5'
const everything = [
  ...['boot.ipxe', 'undionly.kpxe', 'bootx64.efi', 'bootaa64.efi', 'bootriscv64.efi', 'config.txt'],
  'pxelinux.cfg/default',
]
const processors: Record<string, UefiProcessor> = {
  'bootx64.efi': 'x86_64',
  'bootaa64.efi': 'aarch64',
  'bootriscv64.efi': 'riscv64',
}
const processorOf = (file: string) => processors[file]
const tree = findLoaders(new Set(everything), processorOf, undefined)
const web = findLoaders(new Set(everything), processorOf, 'http://10.0.0.5/')

function machine({ mac = '52:54:00:00:00:01', vendor = '', architecture = -1, user = '' }) {
  const options = new Map<number, Buffer>()
  if (vendor !== '') options.set(60, Buffer.from(vendor))
  if (architecture >= 0) options.set(93, Buffer.from([architecture >> 8, architecture & 255]))
  if (user !== '') options.set(77, Buffer.from(user))
  const hardwareAddress = Buffer.from(mac.replaceAll(':', ''), 'hex')
  const found = machineOf({ ...decodePacket(ipxeDiscover), hardwareAddress, options })
  assert.ok(found)
  return found
}

const pxe = (architecture: number, more = {}) =>
  machine({ vendor: `PXEClient:Arch:${architecture}`, architecture, ...more })
const pi = { mac: 'dc:a6:32:01:36:c2' }

suite('the boot file of a machine', () => {
  for (const [name, asking, expected, expectedOverHttp] of [
    ['BIOS', pxe(0), 'undionly.kpxe', 'undionly.kpxe'],
    ['UEFI on x86_64', pxe(7), 'bootx64.efi', 'bootx64.efi'],
    ['UEFI on x86_64, with its other architecture number', pxe(9), 'bootx64.efi', 'bootx64.efi'],
    ['UEFI on aarch64', pxe(11), 'bootaa64.efi', 'bootaa64.efi'],
    ['UEFI on riscv64', pxe(27), 'bootriscv64.efi', 'bootriscv64.efi'],
    ['iPXE', pxe(0, { user: 'iPXE' }), 'boot.ipxe', 'http://10.0.0.5/boot.ipxe'],
    [
      'iPXE with a user class that a person set',
      pxe(7, { user: 'lab' }),
      'bootx64.efi',
      'bootx64.efi',
    ],
    ['UEFI of a Raspberry Pi', pxe(11, pi), 'bootaa64.efi', 'bootaa64.efi'],
    ['the loader of a Raspberry Pi', pxe(0, pi), undefined, undefined],
    ['U-Boot', machine({ vendor: 'U-Boot.armv8', architecture: 22 }), undefined, undefined],
  ] as const) {
    test(name, () => {
      const { architectures: asked } = asking
      const answers = [tree, web].map((loaders) => bootAnswer(asking, loaders, server))
      for (const [index, file] of [expected, expectedOverHttp].entries()) {
        const answer = answers[index]
        assert.ok(answer && 'client' in answer, `${asked.join()}: no answer`)
        assert.equal(answer.server, server)
        assert.equal(answer.file, file)
      }
    })
  }

  test('UEFI HTTP boot gets a URL, if the image is served over HTTP', () => {
    const asking = machine({ vendor: 'HTTPClient:Arch:00016', architecture: 16 })
    assert.deepEqual(bootAnswer(asking, web, server), {
      client: 'http',
      server,
      file: 'http://10.0.0.5/bootx64.efi',
    })
    assert.deepEqual(bootAnswer(asking, tree, server), {
      reason: 'the image has no loader for HTTP on architecture 16',
    })
    const riscv = bootAnswer(machine({ vendor: 'HTTPClient', architecture: 28 }), web, server)
    assert.ok('file' in riscv && riscv.file === 'http://10.0.0.5/bootriscv64.efi')
  })

  test('firmware without a loader in the image gets a reason, and systems get nothing', () => {
    assert.deepEqual(bootAnswer(pxe(6), tree, server), {
      reason: 'the image has no loader for PXE on architecture 6',
    })
    assert.equal(machine({ vendor: 'dhcpcd-9.4.1' }).bootClient, undefined)
  })
})

suite('the boot fields of a packet', () => {
  test('have the menu for a Raspberry Pi that its manual shows', () => {
    const { nextServer, file, options } = bootFields(
      { client: 'raspberry-pi', server },
      'address-server',
      pxe(0, pi),
    )
    assert.equal(nextServer, server)
    assert.equal(file, '')
    assert.equal(options.get(66)?.toString(), server)
    assert.equal(options.get(60)?.toString(), 'PXEClient')
    const menu = Buffer.from('Raspberry Pi Boot   ').toString('hex')
    assert.equal(
      options.get(43)?.toString('hex'),
      `0601030a0400${Buffer.from('PXE').toString('hex')}0917000014${menu}ff`,
    )
  })

  test('have a URL in option 67 if it is too long for the header', () => {
    const file = `http://10.0.0.5/${'x'.repeat(120)}/boot.ipxe`
    const fields = bootFields({ client: 'ipxe', server, file }, 'address-server', pxe(0))
    assert.equal(fields.file, '')
    assert.equal(fields.options.get(67)?.toString(), file)
  })

  test('of a proxy have the file for a BIOS; UEFI asks for it on port 4011', () => {
    const answer = { client: 'pxe', server, file: 'loader' } as const
    const bios = bootFields(answer, 'proxy', pxe(0))
    assert.equal(bios.file, 'loader')
    assert.equal(bios.options.get(43)?.toString('hex'), '060108ff')
    assert.equal(bootFields(answer, 'proxy', pxe(7)).file, '')
    assert.equal(bootFields(answer, 'proxy-4011', pxe(7)).file, 'loader')
  })
})

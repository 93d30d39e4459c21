// A machine with Secure Boot: it starts a unified kernel image only if the image is signed with a
// key that the firmware knows.

import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { bootBy } from './support/boot-ways.ts'
import { buildBootableSystem, buildDemoImage, small, type DemoImage } from './support/demo-image.ts'
import { fetchFirmware, type Firmware } from './support/firmware.ts'
import { powerOn, x86SecureUefi } from './support/machines.ts'
import { openNetwork } from './support/network.ts'
import { startLoaderServers } from './support/servers.ts'

type Signing = { signKey: string; signCertificate: string }

suite('Secure Boot', { concurrency: 2 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-secure-boot-test-'))
  let firmware: Firmware
  let known: Signing
  let unknown: Signing

  before(async () => {
    firmware = await fetchFirmware()
    known = knownKey(firmware, directory)
    unknown = await generateKey(directory)
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  async function buildImage(name: string, signing?: Signing): Promise<DemoImage> {
    const demo = await buildBootableSystem('x86_64-linux', small)
    return await buildDemoImage(demo, join(directory, name), {
      boot: ['uefi'],
      bootSettings: { uefiStub: firmware.stubs['x86_64-linux'], ...signing },
    })
  }

  /** Checks with sbverify that the image is signed with the key that the firmware knows. */
  async function verifySignature({ bootTree }: DemoImage): Promise<string> {
    const { signCertificate } = known
    const args = ['--cert', signCertificate, join(bootTree, 'bootx64.efi')]
    return await runProgram(findProgram('sbverify'), args)
  }

  test('boots an image that is signed with a key that the firmware knows', async (context) => {
    await verifySignature(await buildImage('known', known))
    await bootBy(
      {
        name: 'ovmf-secure-boot',
        system: 'x86_64-linux',
        machine: x86SecureUefi,
        boot: ['uefi'],
        signing: known,
        // The firmware starts only what it has verified.
        until: 'start',
        shows: [/Start PXE over IPv4/],
      },
      context,
    )
  })

  test('refuses an image with a signature of an unknown key', async () => {
    // The firmware refuses an image without a signature in the same way.
    await assert.rejects(verifySignature(await buildImage('unsigned')))
    const image = await buildImage('unknown', unknown)
    await assert.rejects(verifySignature(image))
    await using network = await openNetwork('secure-boot-unknown-key')
    await startLoaderServers(network, image.image)
    // Here the firmware must give up, so giving up is not a failure.
    const { command } = x86SecureUefi(firmware)
    const machine = await powerOn(network, {
      name: 'machine',
      mac: '52:54:00:00:00:01',
      machine: { command },
    })
    await machine.waitFor(/NBP file downloaded successfully/)
    // After this the line may be broken, in the middle of “Access Denied”.
    await machine.waitFor(/failed to load Boot.* "UEFI PXEv4 .*: A/)
    await machine.powerOff()
    const said = machine.lines().map(({ text }) => text)
    assert.ok(!said.some((line) => line.includes('EFI stub')), said.join('\n'))
  })
})

/** The key for the certificate in the firmware's variables. */
function knownKey({ secureOvmf: { key, certificate } }: Firmware, directory: string): Signing {
  const signKey = join(directory, 'known.key')
  const { passphrase, file } = key
  const opened = createPrivateKey({ key: readFileSync(file), passphrase })
  writeFileSync(signKey, opened.export({ type: 'pkcs8', format: 'pem' }))
  return { signKey, signCertificate: certificate }
}

/** A valid key that the firmware does not know. */
async function generateKey(directory: string): Promise<Signing> {
  const signKey = join(directory, 'unknown.key')
  const signCertificate = join(directory, 'unknown.pem')
  const files = ['-keyout', signKey, '-out', signCertificate]
  const kind = ['-x509', '-newkey', 'rsa:2048', '-noenc', '-days', '2', '-subj', '/CN=unknown']
  await runProgram(findProgram('openssl'), ['req', ...kind, ...files])
  return { signKey, signCertificate }
}

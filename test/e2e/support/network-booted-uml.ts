// Machines of User Mode Linux that boot from the network, from power-on: this plays their firmware, which
// is iPXE. It gets the address, the script, and the kernel, the initrd and the kernel line that the script
// names. So a machine boots what the server gives it, without an emulator.

import assert from 'node:assert/strict'
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { powerOn, userModeLinux, type Kernel, type PoweredMachine } from './machines.ts'
import type { Host, Network } from './network.ts'
import { udhcpc } from './own-dhcp.ts'
import { findProgram } from '../../support/packages.ts'

export interface NetworkBooted {
  /** Its firmware gets all that the server gives it. @returns starts the kernel */
  load: () => Promise<() => Promise<PoweredMachine>>
}

/** As iPXE for BIOS asks. */
const asIpxe = ['-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '77:69505845', '-O', 'bootfile']

export async function addNetworkBooted(
  network: Network,
  { name, mac }: { name: string; mac: string },
): Promise<NetworkBooted> {
  const card = await network.addHost(mac)
  let starts = 0
  return {
    async load() {
      const start = ++starts
      const directory = join(card.directory, `start-${start}`)
      mkdirSync(directory)
      const machine = userModeLinux(await load(card, directory))
      return () => powerOn(network, { name: `${name}-${start}`, mac, machine })
    },
  }
}

/** The card has its link only as long as the firmware uses it: the kernel has a card of the same address. */
async function load(card: Host, directory: string): Promise<Kernel> {
  const ip = (...args: string[]) => card.run([findProgram('ip'), ...args])
  await ip('link', 'set', 'eth0', 'up')
  const lease = await udhcpc(card, asIpxe)
  const { ip: address, boot_file: script = '' } = lease
  await ip('address', 'add', `${address}/24`, 'dev', 'eth0')

  async function fetch(url: string, file: string): Promise<string> {
    const path = join(directory, file)
    await card.run([findProgram('curl'), '--fail', '--silent', '--output', path, url])
    return path
  }
  const lines = (await card.run(['cat', await fetch(script, 'script')])).split('\n')
  const wordsOf = (command: string) =>
    lines.find((line) => line.startsWith(`${command} `))?.split(' ') ?? assert.fail(script)
  const [, kernelPath = '', ...rest] = wordsOf('kernel')
  const kernel = await fetch(new URL(kernelPath, script).href, 'kernel')
  // A kernel of User Mode Linux is a program.
  chmodSync(kernel, 0o755)
  const [, , , initrdPath = ''] = wordsOf('initrd')
  const initrd = await fetch(new URL(initrdPath, script).href, 'initrd')
  await ip('address', 'flush', 'dev', 'eth0')
  await ip('link', 'set', 'eth0', 'down')
  const kernelLine = rest
    .slice(0, rest.indexOf('||'))
    // The initrd has another place, and these machines have no serial port.
    .filter((word) => !/^(initrd|console)=/.test(word))
    .join(' ')
  return { kernel, initrd, kernelLine }
}

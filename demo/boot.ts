/** Boots a machine from power-on, with the servers that people run, and tells each step. */
import { setTimeout as sleep } from 'node:timers/promises'

import { routerAdvertisements } from '../test/e2e/support/configuration.ts'
import { startDnsmasq, startGanesha } from '../test/e2e/support/daemons.ts'
import { powerOn, x86Bios } from '../test/e2e/support/machines.ts'
import { openNetwork } from '../test/e2e/support/network.ts'

export interface DemoBoot {
  /** What `netimage servers` prints for the image that the machine is given. */
  configure: (server: 'dnsmasq' | 'ganesha', ...flags: string[]) => Promise<string>
  show: (line: string) => void
}

/** What the console says at each step of a boot, and what that step is. */
const steps: readonly [RegExp, string][] = [
  [/^iPXE \d|iPXE initialising/, 'the network card’s iPXE starts'],
  [/^Configuring \(net0/, 'iPXE asks for an address'],
  [/boot\.ipxe.* ok/, 'iPXE has the script of the boot tree'],
  [/^nixos\/.*-bzImage\.\.\./, 'iPXE fetches the kernel'],
  [/^nixos\/.*-initrd\./, 'iPXE fetches the initrd'],
  [/netimage-demo: stage 1/, 'the initrd looks for the network'],
  [/netimage-demo: root/, 'it mounts the root over NFS'],
  [/netimage-demo: stage 2/, 'the system’s own init runs'],
  [/netimage-demo: registered/, 'real Nix has registered the store: this was the first boot'],
  [/netimage-demo: up/, 'the machine is up'],
]

const bootSeconds = 180

export async function bootInFront({ configure, show }: DemoBoot): Promise<void> {
  await using network = await openNetwork('demo')
  const range = ['--interface', network.bridge, '--range', '10.66.0.100-10.66.0.199']
  const dnsmasq = await configure('dnsmasq', ...range)
  await startDnsmasq(network, `${dnsmasq}\n${routerAdvertisements.join('\n')}\n`)
  await startGanesha(network, await configure('ganesha'))
  const machine = await powerOn(network, {
    name: 'machine',
    mac: '52:54:00:00:00:01',
    machine: x86Bios(),
  })
  let up = false
  const waiting = machine.waitFor(/netimage-demo: up/, bootSeconds).finally(() => (up = true))
  const left = [...steps]
  for (let seen = 0, last = false; !last;) {
    last = up
    const lines = machine.lines()
    // The last line may not be complete yet.
    const complete = last ? lines.length : Math.max(seen, lines.length - 1)
    for (const { seconds, text } of lines.slice(seen, complete)) {
      const at = left.findIndex(([pattern]) => pattern.test(text))
      if (at >= 0) show(`  ${seconds.toFixed(1).padStart(6)} s  ${left.splice(at, 1)[0]?.[1]}`)
    }
    seen = complete
    await sleep(100)
  }
  await waiting
  await machine.powerOff()
}

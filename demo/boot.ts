/** Boots a machine from power-on with `netimage serve`, and shows each step. */
import { setTimeout as sleep } from 'node:timers/promises'

import { powerOn, x86Bios } from '../test/e2e/support/machines.ts'
import { openNetwork } from '../test/e2e/support/network.ts'
import { startRouter } from '../test/e2e/support/servers.ts'

export interface DemoBoot {
  image: string
  /** The server's directory for the writes of the machine. */
  state: string
  /** Shows the person the command line of netimage with these arguments, and returns it. */
  command: (...args: string[]) => string[]
  show: (line: string) => void
}

/** The text on the console at each step of a boot, and a description of the step. */
const steps: readonly [RegExp, string][] = [
  [/^iPXE \d|iPXE initialising/, 'the network card’s iPXE starts'],
  [/^Configuring \(net0/, 'iPXE asks for an address'],
  [/boot\.ipxe.* ok/, 'iPXE has the script of the boot tree'],
  [/^nixos\/.*-bzImage\.\.\./, 'iPXE fetches the kernel'],
  [/^nixos\/.*-initrd\./, 'iPXE fetches the initrd'],
  [/netimage-demo: stage 1/, 'the initrd looks for the network'],
  [/netimage-demo: root/, 'the initrd mounts the root over NFS'],
  [/netimage-demo: stage 2/, 'the system’s own init runs'],
  [/netimage-demo: registered/, 'real Nix has registered the store: this was the first boot'],
  [/netimage-demo: up/, 'the machine is up'],
]

const mac = '52:54:00:00:00:01'

export async function bootInFront({ image, state, command, show }: DemoBoot): Promise<void> {
  await using network = await openNetwork('demo')
  // As in most networks, a router gives the addresses.
  await startRouter(network, { gives: 'addresses' })
  const serve = command('serve', image, '--allow', mac, '--state', state)
  const server = network.start('netimage', serve, /^error: /)
  const { text } = await server.waitFor(/^on /)
  show(`  ${text}`)
  const machine = await powerOn(network, { name: 'machine', mac, machine: x86Bios() })
  let up = false
  const waiting = machine.waitFor(/netimage-demo: up/).finally(() => (up = true))
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
  const boots = await network.run(command('boots', mac, '--state', state))
  show(boots.trimEnd())
}

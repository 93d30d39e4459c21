// A second network of the server: the bridge br1, on which it has the address 10.77.0.1/24.

import type { Host, Network } from './network.ts'

/** Adds the only host of this network. @param mac the hardware address of the host */
export async function addHostElsewhere(network: Network, mac: string): Promise<Host> {
  const cables = async () =>
    (await network.run(['ls', `/sys/class/net/${network.bridge}/brif`])).split('\n')
  const before = await cables()
  const host = await network.addHost(mac)
  const cable = (await cables()).find((name) => !before.includes(name)) ?? ''
  for (const command of [
    'link add br1 type bridge',
    'address add 10.77.0.1/24 broadcast + dev br1',
    'link set br1 up',
    `link set ${cable} master br1`,
  ]) {
    await network.run(['ip', ...command.split(' ')])
  }
  return host
}

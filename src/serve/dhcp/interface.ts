/** The network interface that is served. */
import { existsSync, readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'

import { NetimageError } from '../../errors.ts'

const directory = '/sys/class/net'
const hint = '`ip address` shows the interfaces and their addresses.'

/**
 * Node only knows addresses of interfaces whose cable is plugged in at both ends; the machine at
 * the other may not be switched on yet. So an address that it does not know is left to the kernel.
 *
 * @throws `NetimageError` `bad-option`
 */
export function checkInterface(device: string, address: string): void {
  if (!existsSync(join(directory, device, 'address'))) {
    throw new NetimageError('bad-option', `there is no interface ${JSON.stringify(device)}`, {
      hint,
    })
  }
  for (const [name, addresses = []] of Object.entries(networkInterfaces())) {
    if (name === device || !addresses.some((one) => one.address === address)) continue
    const problem = `${address} is of the interface ${name}, not of ${device}`
    throw new NetimageError('bad-option', problem, { hint })
  }
}

/** The hardware address, lower case with colons. */
export function macOf(device: string): string {
  return readFileSync(join(directory, device, 'address'), 'utf8').trim()
}

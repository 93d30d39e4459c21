/** The network interface that is served. */
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'

import { NetimageError } from '../../errors.ts'
import { ownAddresses } from '../interfaces.ts'

const hint = 'Run `ip address` to see the interfaces and their addresses.'

/**
 * Node lists only interfaces whose cable is connected to a running device. So an address that Node
 * does not list is no error here; the kernel decides when we bind to the address.
 *
 * @throws `NetimageError` `cannot-listen` if there is no such interface (yet), `bad-option` if the
 *   address is another interface's
 */
export function checkInterface(device: string, address: string): void {
  if (!interfaceNames().includes(device)) {
    const problem = `there is no interface ${JSON.stringify(device)}`
    throw new NetimageError('cannot-listen', problem, { hint })
  }
  const other = ownAddresses().find((own) => own.address === address && own.name !== device)
  if (!other) return
  const problem = `${address} is an address of the interface ${other.name}, not of ${device}`
  throw new NetimageError('bad-option', problem, { hint })
}

/**
 * The file has two lines of headings, then lines `name: numbers`. Unlike /sys, it always shows the
 * network namespace of this process.
 */
function interfaceNames(): string[] {
  const lines = readFileSync('/proc/net/dev', 'utf8').trim().split('\n').slice(2)
  return lines.map((line) => line.trim().replace(/:[^:]*$/, ''))
}

/**
 * @returns the hardware address, lower case with colons; undefined if no running device is at the
 *   other end of the cable
 */
export function macOf(device: string): string | undefined {
  const isOf = (name: string) => name.replace(/:.*$/, '') === device
  return Object.entries(networkInterfaces()).find(([name]) => isOf(name))?.[1]?.[0]?.mac
}

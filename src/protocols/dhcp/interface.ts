/** The network interface that is served. */
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'

import { NetimageError } from '../../errors.ts'
import { ownAddresses } from '../interfaces.ts'

const hint = '`ip address` shows the interfaces and their addresses.'

/**
 * Node only knows addresses of interfaces that have somebody at the other end of the cable, who may
 * not be switched on yet. So an address that it does not know is left to the kernel.
 *
 * @throws `NetimageError` `bad-option`
 */
export function checkInterface(device: string, address: string): void {
  if (!interfaceNames().includes(device)) {
    throw new NetimageError('bad-option', `there is no interface ${JSON.stringify(device)}`, {
      hint,
    })
  }
  const other = ownAddresses().find((own) => own.address === address && own.name !== device)
  if (!other) return
  const problem = `${address} is of the interface ${other.name}, not of ${device}`
  throw new NetimageError('bad-option', problem, { hint })
}

/** Two lines of headings, then `name: numbers`. Unlike /sys it is of this network namespace. */
function interfaceNames(): string[] {
  const lines = readFileSync('/proc/net/dev', 'utf8').trim().split('\n').slice(2)
  return lines.map((line) => line.trim().replace(/:[^:]*$/, ''))
}

/**
 * The hardware address, lower case with colons; undefined while there is nobody at the other end of
 * the cable.
 */
export function macOf(device: string): string | undefined {
  const isOf = (name: string) => name.replace(/:.*$/, '') === device
  return Object.entries(networkInterfaces()).find(([name]) => isOf(name))?.[1]?.[0]?.mac
}

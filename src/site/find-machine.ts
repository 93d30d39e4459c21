/** Finds the machine that a person names. */
import { isIPv4 } from 'node:net'

import { NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'

/** The machine with this address. @returns undefined if the text is no hardware or IP address */
export function machineAt(text: string): string | undefined {
  return parseMac(text) ?? (isIPv4(text) ? text : undefined)
}

/** Whether a machine has this name, or it is an address. */
export function isMachine(names: ReadonlyMap<string, string>, text: string): boolean {
  return machineAt(text) !== undefined || [...names.values()].includes(text.toLowerCase())
}

/**
 * @param names of machines, by machine
 * @param text a hardware or IP address in any form, or a name
 * @throws `NetimageError` `unknown-machine` for a name that no machine has
 */
export function machineIn(names: ReadonlyMap<string, string>, text: string): string {
  const machine = machineAt(text)
  if (machine !== undefined) return machine
  const wanted = text.toLowerCase()
  for (const [machine, name] of names) if (name === wanted) return machine
  throw new NetimageError('unknown-machine', `no machine of the site has the name ${text}`, {
    details: { actual: text },
    hint: 'Give its hardware address, or list the machines with: netimage site status.',
  })
}

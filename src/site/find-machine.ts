/** Finds the machine that a person names. */
import { isIPv4 } from 'node:net'

import { NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { isSameSerial, parseSerial } from '../serial-number.ts'
import type { Declarations } from './declarations.ts'
import type { BrokenRow } from './rows.ts'

/** By what people name machines. */
export interface MachineNames {
  /** By machine. */
  names: ReadonlyMap<string, string>
  declarations: Declarations
  /** Declarations that cannot be read: any address may be one of these machines. */
  broken: readonly BrokenRow[]
}

/** The key of the machine whose only address this is. @returns undefined if the text is no hardware or IP address */
export function machineAt(text: string): string | undefined {
  return parseMac(text) ?? (isIPv4(text) ? text : undefined)
}

/** Whether a machine has this name, or it is an address. */
export function isMachine(names: ReadonlyMap<string, string>, text: string): boolean {
  return machineAt(text) !== undefined || [...names.values()].includes(text.toLowerCase())
}

/**
 * @param text a hardware or IP address in any form, a name, or a serial number
 * @throws `NetimageError` `unknown-machine` for a name that no machine has
 * @throws `BrokenRow` if a broken row may say which machine it is
 */
export function machineIn({ names, declarations, broken }: MachineNames, text: string): string {
  const address = machineAt(text)
  if (address !== undefined) {
    const found = [...declarations].find(([, { macs }]) => macs.includes(address))
    if (!found && broken[0]) throw broken[0]
    return found?.[0] ?? address
  }
  const wanted = text.toLowerCase()
  for (const [machine, name] of names) if (name === wanted) return machine
  const serial = parseSerial(text)
  for (const [machine, { serials }] of declarations) {
    if (serial !== undefined && serials.some((each) => isSameSerial(each, serial))) return machine
  }
  if (serial !== undefined && broken[0]) throw broken[0]
  throw new NetimageError('unknown-machine', `no machine of the site has the name ${text}`, {
    details: { actual: text },
    hint: 'Give its hardware address, or list the machines with: netimage site status.',
  })
}

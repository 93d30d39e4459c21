import { parseMac } from '../mac.ts'

/** A label of a host name (RFC 1123, section 2.1). */
const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/** Whether a machine or a group can have this name. `any` means all machines. */
export function isMachineName(text: string): boolean {
  return label.test(text) && parseMac(text) === undefined && text !== 'any'
}

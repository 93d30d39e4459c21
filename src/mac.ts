/** Hardware addresses of Ethernet. Inside they are lower case with colons. */

/** As people and programs write them: with colons, or with dashes. @returns undefined for no address */
export function parseMac(text: string): string | undefined {
  const mac = text.toLowerCase().replaceAll('-', ':')
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) ? mac : undefined
}

export function formatMac(bytes: Buffer): string {
  return bytes.toString('hex').replaceAll(/(..)(?=.)/g, '$1:')
}

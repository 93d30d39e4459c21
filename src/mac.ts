/** Hardware addresses of Ethernet. netimage keeps them in lower case with colons. */

/**
 * @param text an address with colons or dashes
 * @returns undefined if the text is no hardware address
 */
export function parseMac(text: string): string | undefined {
  const mac = text.toLowerCase().replaceAll('-', ':')
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) ? mac : undefined
}

export function formatMac(bytes: Buffer): string {
  return bytes.toString('hex').replaceAll(/(..)(?=.)/g, '$1:')
}

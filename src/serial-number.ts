/**
 * Serial numbers of machines: that of a Raspberry Pi, in 8 or 16 digits in base 16, or the UUID by which the
 * firmware of other computers names the computer (SMBIOS). In lower case.
 */

/** @returns undefined if the text is no serial number */
export function parseSerial(text: string): string | undefined {
  const serial = text.toLowerCase()
  if (/^([0-9a-f]{8}){1,2}$/.test(serial)) return serial
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(serial) ? serial : undefined
}

/**
 * A Raspberry Pi tells DHCP and TFTP only the last 8 digits. Firmware disagrees on the order of the bytes in the
 * first three parts of a UUID.
 */
export function isSameSerial(one: string, other: string): boolean {
  if (one.includes('-') !== other.includes('-')) return false
  if (one.includes('-')) return one === other || swapped(one) === other
  return one.length === other.length ? one === other : one.slice(-8) === other.slice(-8)
}

function swapped(uuid: string): string {
  const [first = '', second = '', third = '', ...rest] = uuid.split('-')
  return [...[first, second, third].map(backwards), ...rest].join('-')
}

function backwards(bytes: string): string {
  return bytes.match(/../g)?.toReversed().join('') ?? ''
}

/**
 * The serial number in the client machine identifier of DHCP (option 97): a type of 0, and then
 *
 * - for a Raspberry Pi 4 and later, `RPi` and a digit, the revision, the end of the hardware address, and the
 *   serial number with its last byte first; https://www.raspberrypi.com/documentation/computers/raspberry-pi.html
 *   (DHCP_OPTION97)
 * - for other firmware of a Raspberry Pi, the serial number four times
 * - a UUID [RFC 4578 §2.3]
 *
 * @returns undefined if there is none, or if the firmware does not know it
 */
export function serialInGuid(guid: Buffer): string | undefined {
  if (guid.length !== 17 || guid[0] !== 0) return undefined
  const bytes = guid.subarray(1)
  const last = bytes.subarray(12)
  const isRepeated = [0, 4, 8].every((at) => bytes.subarray(at, at + 4).equals(last))
  // All bytes are 0 or 255 if the maker has set no UUID.
  if (isRepeated && (last.equals(noBytes) || last.equals(allBytes))) return undefined
  if (isRepeated || bytes.subarray(0, 3).toString('latin1') === 'RPi') {
    return Buffer.from(last).reverse().toString('hex')
  }
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

const [noBytes, allBytes] = [Buffer.alloc(4), Buffer.alloc(4, 255)]

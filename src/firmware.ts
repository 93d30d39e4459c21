/** What firmware says of itself and expects, where DHCP is the only way to know it. */

/**
 * Processor architecture types that machines send in option 93.
 *
 * https://www.iana.org/assignments/dhcpv6-parameters/dhcpv6-parameters.xhtml#processor-architecture
 */
export const architectures = {
  bios: [0],
  efiX64: [7, 9],
  efiArm64: [11],
  efiRiscv64: [27],
  httpX64: [16],
  httpArm64: [19],
  httpRiscv64: [28],
} as const

/** All that mean boot over HTTP. */
export const httpArchitectures: ReadonlySet<number> = new Set([
  ...[15, 16, 17, 18, 19, 20, 23, 24, 26, 28, 30, 38, 40],
])

/** The type that is a Raspberry Pi's own; most of them say that they are a BIOS. */
export const raspberryPiArchitecture = 41

/**
 * How option 97 of a Raspberry Pi 4 and later begins, in hex: the type, then `RPi`. It is so whatever
 * hardware address a Pi was given.
 *
 * https://www.raspberrypi.com/documentation/computers/raspberry-pi.html (DHCP_OPTION97)
 */
export const raspberryPiGuid = '00525069'

/** The first bytes of a Raspberry Pi's hardware address. */
export const raspberryPiPrefixes = [
  'b8:27:eb',
  'dc:a6:32',
  'e4:5f:01',
  'd8:3a:dd',
  '28:cd:c1',
  '2c:cf:67',
  '88:a2:9e',
]

/** A Pi's loader takes part only where the menu of option 43 has this; a Pi 3 wants the blanks. */
export const raspberryPiMenu = 'Raspberry Pi Boot   '

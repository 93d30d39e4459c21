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
  httpX64: [16],
  httpArm64: [19],
} as const

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

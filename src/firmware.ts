/** Codes and options by which firmware and DHCP servers know each other. */

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

/** A kind of firmware that needs its own boot file. */
export type Firmware = keyof typeof architectures

/** @param architecture the code of option 93 */
export function firmwareOf(architecture: number): Firmware | undefined {
  return firmwareKinds.find((firmware) =>
    architectures[firmware].some((code) => code === architecture),
  )
}

export const firmwareKinds = [
  ...(['bios', 'efiX64', 'efiArm64', 'efiRiscv64'] as const),
  ...(['httpX64', 'httpArm64', 'httpRiscv64'] as const),
] satisfies Firmware[]

/** Processors of UEFI, by their names in Nix's platforms. */
export const uefiProcessors = {
  x86_64: { loader: 'efiX64', httpLoader: 'httpX64', name: 'x64', machine: 0x8664 },
  aarch64: { loader: 'efiArm64', httpLoader: 'httpArm64', name: 'aa64', machine: 0xaa64 },
  riscv64: { loader: 'efiRiscv64', httpLoader: 'httpRiscv64', name: 'riscv64', machine: 0x5064 },
} as const satisfies Record<string, UefiProcessorFacts>

export type UefiProcessor = keyof typeof uefiProcessors

interface UefiProcessorFacts {
  /** The kinds of firmware that boot over TFTP and over HTTP. */
  loader: Firmware
  httpLoader: Firmware
  /** In the names of files: UEFI specification, section 3.5.1.1. */
  name: string
  /** In the header of a program: https://learn.microsoft.com/en-us/windows/win32/debug/pe-format */
  machine: number
}

export function isUefiProcessor(name: string): name is UefiProcessor {
  return Object.hasOwn(uefiProcessors, name)
}

/** The architecture types that mean boot over HTTP. */
export const httpArchitectures: ReadonlySet<number> = new Set([
  ...[15, 16, 17, 18, 19, 20, 23, 24, 26, 28, 30, 38, 40],
])

/** The type of Raspberry Pi. Most Pis send the type of a BIOS instead. */
export const raspberryPiArchitecture = 41

/**
 * The first bytes of option 97 of a Raspberry Pi 4 and later, in hex: the type, then `RPi`. They do
 * not depend on the hardware address.
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

/**
 * A Pi's loader accepts an answer only if the menu of option 43 has this. A Pi 3 needs the blanks.
 */
export const raspberryPiMenu = 'Raspberry Pi Boot   '

/**
 * Option 43 for a Raspberry Pi: PXE's discovery control (no search for boot servers), the prompt,
 * and a menu with one entry of type 0. Intel's PXE specification 2.1, section 2.2.2
 */
export const raspberryPiVendorOptions = Buffer.concat([
  Buffer.from([6, 1, 3]),
  Buffer.from('\x0a\x04\0PXE', 'latin1'),
  Buffer.from([9, 3 + raspberryPiMenu.length, 0, 0, raspberryPiMenu.length]),
  Buffer.from(raspberryPiMenu),
  Buffer.from([255]),
])

// The differences between the loaders of Raspberry Pi models, from Raspberry Pi's documentation:
//
// https://www.raspberrypi.com/documentation/computers/raspberry-pi.html (network booting, its known
// problems, and the bootloader configuration: TFTP_PREFIX, DHCP_OPTION97)
// https://www.raspberrypi.com/documentation/computers/config_txt.html

export const modelNames = ['pi3', 'pi4', 'pi5'] as const
export type ModelName = (typeof modelNames)[number]

export type Model = {
  /** The filters of config.txt that match. */
  filters: readonly string[]
  /** Option 97, after its first byte. */
  guid: (board: Board) => Buffer
  /** Option 55. */
  parameterRequests: readonly number[]
  /** The text in the menu of option 43. A Pi 3 needs the spaces: it computes a wrong length. */
  menu: string
  /** Whether the model sends a REQUEST for the offered address. */
  requestsAddress: boolean
  /** Whether the ROM fetches the second stage; other models have it in an EEPROM. */
  fetchesBootcode: boolean
  /** Files that show that a folder belongs to this machine; the first existing one decides. */
  prefixProbes: readonly string[]
  /** The firmware; a Pi 5 has it in its EEPROM. */
  firmware: readonly string[]
  /** Optional files that are requested between config.txt and the firmware. */
  early: readonly string[]
  deviceTree: { downstream: string; upstream: string }
  armStub: string
  /** The kernels if config.txt names none: with arm_64bit and without. */
  kernels: { arm64: readonly string[]; arm32: readonly string[] }
  /** Whether 64-bit mode is the default. */
  isArm64: boolean
  blockSize: number
  /** The last block number of the loader; undefined: after 65535, it counts from 0 again. */
  lastBlock?: number
}

export type Board = {
  mac: string
  /** 8 hex digits: the low half of the serial number. */
  serial: string
  /** The revision code, as in `c03111`. */
  revision: string
}

// The boot server, the vendor's options, PXE's reserved range and the TFTP server.
const romRequests = [43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66]
const eepromRequests = [1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135]

/** The model's name, the revision, the end of the hardware address and the serial number. */
function structuredGuid(fourcc: string): Model['guid'] {
  return ({ mac, serial, revision }) => {
    const number = (hex: string) => {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE(Number.parseInt(hex, 16))
      return bytes
    }
    const address = Buffer.from(mac.replaceAll(':', ''), 'hex').subarray(2)
    return Buffer.concat([Buffer.from(fourcc), number(revision), address, number(serial)])
  }
}

export const models: Record<ModelName, Model> = {
  pi3: {
    filters: ['pi3'],
    // Always the same bytes, because of a defect of the ROM.
    guid: () => Buffer.alloc(16, 0x44),
    parameterRequests: romRequests,
    menu: 'Raspberry Pi Boot   ',
    requestsAddress: false,
    fetchesBootcode: true,
    prefixProbes: ['start.elf'],
    firmware: ['start.elf', 'fixup.dat'],
    early: ['recovery.elf'],
    deviceTree: { downstream: 'bcm2710-rpi-3-b.dtb', upstream: 'bcm2837-rpi-3-b.dtb' },
    armStub: 'armstub8.bin',
    kernels: { arm64: ['kernel8.img'], arm32: ['kernel7.img', 'kernel.img'] },
    isArm64: false,
    blockSize: 1024,
  },
  pi4: {
    filters: ['pi4'],
    guid: structuredGuid('RPi4'),
    parameterRequests: eepromRequests,
    menu: 'Raspberry Pi Boot',
    requestsAddress: true,
    fetchesBootcode: false,
    prefixProbes: ['start4.elf', 'start.elf'],
    firmware: ['start4.elf', 'fixup4.dat'],
    early: ['vl805.sig', 'pieeprom.sig', 'recover4.elf', 'recovery.elf'],
    deviceTree: { downstream: 'bcm2711-rpi-4-b.dtb', upstream: 'bcm2711-rpi-4-b.dtb' },
    armStub: 'armstub8-gic.bin',
    kernels: { arm64: ['kernel8.img'], arm32: ['kernel7l.img', 'kernel7.img', 'kernel.img'] },
    isArm64: true,
    blockSize: 1468,
  },
  pi5: {
    filters: ['pi5'],
    guid: structuredGuid('RPi5'),
    parameterRequests: eepromRequests,
    menu: 'Raspberry Pi Boot',
    requestsAddress: true,
    fetchesBootcode: false,
    prefixProbes: ['config.txt'],
    firmware: [],
    early: ['pieeprom.sig'],
    deviceTree: { downstream: 'bcm2712-rpi-5-b.dtb', upstream: 'bcm2712-rpi-5-b.dtb' },
    armStub: 'armstub8-2712.bin',
    kernels: { arm64: ['kernel_2712.img', 'kernel8.img'], arm32: [] },
    isArm64: true,
    blockSize: 1468,
    lastBlock: 65535,
  },
}

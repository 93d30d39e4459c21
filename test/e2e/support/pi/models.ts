// What tells the loaders of the Raspberry Pi's models apart, from Raspberry Pi's documentation:
//
// https://www.raspberrypi.com/documentation/computers/raspberry-pi.html (network booting, its known
// problems, and the bootloader configuration: TFTP_PREFIX, DHCP_OPTION97)
// https://www.raspberrypi.com/documentation/computers/config_txt.html

export const modelNames = ['pi3', 'pi4', 'pi5'] as const
export type ModelName = (typeof modelNames)[number]

export type Model = {
  /** The filters of config.txt that hold. */
  filters: readonly string[]
  /** Option 97, after its first byte. */
  guid: (board: Board) => Buffer
  /** Option 55. */
  parameterRequests: readonly number[]
  /** What the menu of option 43 must have. A Pi 3 counts the length wrongly: it wants the blanks. */
  menu: string
  /** Whether it asks for the address that it was offered, before it uses it. */
  requestsAddress: boolean
  /** Whether its ROM fetches the second stage, which other models have in an EEPROM. */
  fetchesBootcode: boolean
  /** Files that show that a folder is this machine's own; the first that is there counts. */
  prefixProbes: readonly string[]
  /** The firmware; a Pi 5 has it in its EEPROM. */
  firmware: readonly string[]
  /** What is asked for between config.txt and the firmware, and need not be there. */
  early: readonly string[]
  deviceTree: { downstream: string; upstream: string }
  armStub: string
  /** Kernels, where config.txt names none: with arm_64bit and without. */
  kernels: { arm64: readonly string[]; arm32: readonly string[] }
  /** Whether it is in 64-bit mode without being told. */
  isArm64: boolean
  blockSize: number
  /** The last block that it can count to; without, counting begins again at 0. */
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
    // A constant, by a mistake of the ROM.
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

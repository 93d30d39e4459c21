/** The ways in which machines of bench/serve-boots.ts get their boot files. */

/**
 * - `tftp`, `http`: as recorded, a computer whose card has iPXE.
 * - `pi-tftp`: a Raspberry Pi 4 whose firmware fetches kernel and initrd.
 * - `pi-http`: one whose firmware starts U-Boot, which starts iPXE, which fetches them by HTTP.
 */
export const ways = ['tftp', 'http', 'pi-tftp', 'pi-http'] as const

export type Way = (typeof ways)[number]

interface Fetch {
  blockSize: number
  bytes: number
  file: string
}

/** The sizes are those of Debian's packages. The firmware and U-Boot ask for blocks of this size. */
const piFirmware: readonly Fetch[] = [
  { blockSize: 1468, bytes: 300, file: 'config.txt' },
  { blockSize: 1468, bytes: 2249280, file: 'start4.elf' },
  { blockSize: 1468, bytes: 5399, file: 'fixup4.dat' },
  { blockSize: 1468, bytes: 150, file: 'cmdline.txt' },
  { blockSize: 1468, bytes: 56000, file: 'bcm2711-rpi-4-b.dtb' },
]
const piLoaders: readonly Fetch[] = [
  { blockSize: 1468, bytes: 650000, file: 'u-boot.bin' },
  { blockSize: 1468, bytes: 1011712, file: 'ipxe-arm64.efi' },
]

/** All boot files of all ways, as lines of boot-requests.txt. */
export const linesOfBoards = [...piFirmware, ...piLoaders].map(
  ({ blockSize, bytes, file }) => `fetch ${blockSize} ${bytes} ${file}`,
)

/**
 * @param record the lines of boot-requests.txt
 * @returns the requests of a machine, for boot-client.c
 */
export function requestsOf(way: Way, record: readonly string[]): string[] {
  const recorded = record.filter(isFetch).map(parseFetch)
  const first = record.findIndex(isFetch)
  const others = (lines: readonly string[]) => lines.filter((line) => !isFetch(line))
  return [
    ...others(record.slice(0, first)),
    ...fetches(way, recorded),
    ...others(record.slice(first)),
  ]
}

function fetches(way: Way, recorded: readonly Fetch[]): string[] {
  switch (way) {
    case 'tftp':
      return recorded.map(byTftp)
    case 'http':
      return recorded.map(byHttp)
    case 'pi-tftp': {
      const files = recorded.filter(({ file }) => file !== 'boot.ipxe')
      return [...piFirmware, ...files.map((each) => ({ ...each, blockSize: 1468 }))].map(byTftp)
    }
    case 'pi-http':
      return [...[...piFirmware, ...piLoaders].map(byTftp), ...recorded.map(byHttp)]
  }
}

function isFetch(line: string): boolean {
  return line.startsWith('fetch ')
}

function parseFetch(line: string): Fetch {
  const [, blockSize, bytes, file = ''] = line.split(' ')
  return { blockSize: Number(blockSize), bytes: Number(bytes), file }
}

function byTftp({ blockSize, bytes, file }: Fetch): string {
  return `tftp ${blockSize} ${bytes} ${file}`
}

function byHttp({ bytes, file }: Fetch): string {
  return `http ${bytes} ${file}`
}

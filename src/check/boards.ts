/** Finds the Raspberry Pis that a system or a boot tree is for, by its files. */
import { deviceTreesOf } from '../boot/raspberry-pi.ts'
import type { BootTree, CheckContext } from './context.ts'

/** The source of a kernel: the same drivers have other names in each. */
export type KernelOrigin = 'kernel.org' | 'Raspberry Pi'

/** Modules that a board's network needs. A test compares them with nix/boards.nix. */
export interface NetworkModules {
  /** Undefined means any kernel. */
  kernel?: KernelOrigin
  modules: readonly string[]
}

export interface Board {
  name: string
  deviceTrees: RegExp
  /** Each element is enough for the board, or for one model of the board. */
  networks: readonly NetworkModules[]
  /**
   * The files that its first loader fetches besides `config.txt`. A Pi 5 has them in its EEPROM.
   */
  firmware: readonly string[]
  /** The largest file that its loader can fetch: with a current EEPROM, and with an older one. */
  maxFileBytes?: { now: number; older: number }
}

export const boards: readonly Board[] = [
  {
    name: 'Raspberry Pi 3',
    deviceTrees: deviceTreesOf.pi3,
    // The 3B has the first, the 3B+ the second.
    networks: [{ modules: ['smsc95xx'] }, { modules: ['lan78xx'] }],
    firmware: ['bootcode.bin', 'start.elf', 'fixup.dat'],
  },
  {
    name: 'Raspberry Pi 4',
    deviceTrees: deviceTreesOf.pi4,
    networks: [{ modules: ['genet', 'bcm_phy_lib'] }],
    firmware: ['start4.elf', 'fixup4.dat'],
  },
  {
    name: 'Raspberry Pi 5',
    deviceTrees: deviceTreesOf.pi5,
    // The interface is in the RP1, which is on PCIe. NixOS/nixos-hardware#1768
    networks: [
      {
        kernel: 'kernel.org',
        modules: ['macb', 'pcie_brcmstb', 'clk_rp1', 'rp1_pci', 'pinctrl_rp1'],
      },
      { kernel: 'Raspberry Pi', modules: ['macb', 'pcie_brcmstb', 'clk_rp1', 'rp1'] },
    ],
    firmware: [],
    // The loader's block counter does not roll over, and older EEPROMs use smaller blocks.
    maxFileBytes: { now: 96_000_000, older: 64_000_000 },
  },
]

/** Whether the tree is for a Raspberry Pi's own loader. */
export function isRaspberryPiTree(boot: BootTree | undefined): boot is BootTree {
  return boot?.files.has('config.txt') ?? false
}

/** The boards that the boot tree has device trees for. */
export function boardsOfTree(boot: BootTree): Board[] {
  const names = [...boot.files.keys()]
  return boards.filter(({ deviceTrees }) => names.some((name) => deviceTrees.test(name)))
}

/**
 * The boards that the system is for, if it is only for Raspberry Pis; undefined if it may be for
 * another board.
 */
export async function boardsOfSystem(context: CheckContext): Promise<Board[] | undefined> {
  const { boot, system } = context
  if (isRaspberryPiTree(boot)) {
    const found = boardsOfTree(boot)
    if (found.length > 0) return found
  }
  const [main] = system.entries
  if (main?.dtbs === undefined) return undefined
  const trees = await deviceTreesBelow(context, main.dtbs)
  const found = boards.filter(({ deviceTrees }) => trees.some((name) => deviceTrees.test(name)))
  const isOnlyPi = trees.every((name) => boards.some((board) => board.deviceTrees.test(name)))
  return found.length > 0 && isOnlyPi ? found : undefined
}

/** Names of device trees, in the folder itself and in its folders for makers of chips. */
async function deviceTreesBelow(context: CheckContext, directory: string): Promise<string[]> {
  const names = await context.storeNames(directory)
  const trees = names.filter((name) => name.endsWith('.dtb'))
  for (const name of names) {
    if (name.includes('.') || name === 'overlays') continue
    const below = await context.storeNames(`${directory}/${name}`)
    trees.push(...below.filter((child) => child.endsWith('.dtb')))
  }
  return trees
}

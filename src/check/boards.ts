/** The Raspberry Pis that a system or a boot tree is for, as far as its files tell. */
import { deviceTreesOf } from '../boot/raspberry-pi.ts'
import type { BootTree, CheckContext } from './context.ts'

/** Whose sources a kernel is built from: the same drivers differ in their names. */
export type KernelOrigin = 'kernel.org' | 'Raspberry Pi'

/** Modules that together serve a board's network. nix/boards.nix has them, too: a test compares. */
export interface NetworkModules {
  /** Undefined: whatever kernel. */
  kernel?: KernelOrigin
  modules: readonly string[]
}

export interface Board {
  name: string
  deviceTrees: RegExp
  /** Each of them serves the board, or one model of it. */
  networks: readonly NetworkModules[]
  /** What its first loader fetches besides `config.txt`; a Pi 5 has it in its EEPROM. */
  firmware: readonly string[]
  /** The largest file that its loader fetches whole, and that older ones do. */
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
    // Its block counter does not roll over, and older EEPROMs ask for smaller blocks.
    maxFileBytes: { now: 96_000_000, older: 64_000_000 },
  },
]

/** Whether a Raspberry Pi's own loader is to start from the tree. */
export function isRaspberryPiTree(boot: BootTree | undefined): boot is BootTree {
  return boot?.files.has('config.txt') ?? false
}

/** The boards that the boot tree has device trees for. */
export function boardsOfTree(boot: BootTree): Board[] {
  const names = [...boot.files.keys()]
  return boards.filter(({ deviceTrees }) => names.some((name) => deviceTrees.test(name)))
}

/**
 * The boards that the system can be for, where it is for Raspberry Pis and nothing else; undefined
 * where it might be for another board.
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

/** Names of device trees, in the folder itself or in those of the makers of chips. */
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

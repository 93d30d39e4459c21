/** Whether stage 1 has a driver for the machine's network. */
import type { KernelModules } from '../../nixos/kernel-modules.ts'
import { boards as allBoards, boardsOfSystem } from '../boards.ts'
import type { Board, KernelOrigin, NetworkModules } from '../boards.ts'
import { knownModules } from '../known-modules.ts'
import { wantsNfs } from '../nfs.ts'
import { findPerEntry, lines, type Problem, type Rule } from '../rule.ts'

export const noNetworkDriver: Rule = {
  name: 'no-network-driver',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      if (!(await wantsNfs(context, entry))) return []
      const known = await knownModules(context, entry)
      if (!known) return []
      const { builtin, initrd } = known
      const modules = [builtin, initrd?.modules ?? new Map<string, string>()]
      const boards = await boardsOfSystem(context)
      const problem = boards ? boardProblem(boards, modules, initrd?.modules) : pcProblem(modules)
      return problem ? [{ ...problem, path: entry.initrd ?? entry.kernel }] : []
    })
  },
}

function boardProblem(
  boards: readonly Board[],
  modules: readonly KernelModules[],
  added: KernelModules = new Map<string, string>(),
): Problem | undefined {
  const has = (name: string) => modules.some((some) => some.has(name))
  const networks = networksOf(boards)
  if (networks.some(({ modules }) => modules.every(has))) return undefined
  const names = boards.map(({ name }) => name).join(' or ')
  const missingFor = (kernel: KernelOrigin) => {
    const each = networks.filter((network) => (network.kernel ?? kernel) === kernel)
    return [...new Set(each.flatMap(({ modules }) => modules))].filter((name) => !has(name))
  }
  // Only Raspberry Pi's kernel has a driver with this name.
  const kernel = has('rp1') ? 'Raspberry Pi' : 'kernel.org'
  const missing = missingFor(kernel)
  const ofBoards = new Set(networksOf(allBoards).flatMap(({ modules }) => modules))
  const others = [...added].filter(([name]) => !ofBoards.has(name))
  return {
    // The system may use another interface than its loader.
    level: mayServeNetwork([new Map(others)]) ? 'warning' : 'error',
    message: `neither the initrd nor the kernel has the network driver of a ${names}: ${missing.join(', ')} missing`,
    fix: lines(
      moduleLines(missing.includes('bcm_phy_lib') ? [...missing, 'broadcom'] : missing),
      ...(kernel === 'kernel.org' ? forOwnKernel(missing, missingFor('Raspberry Pi')) : []),
    ),
  }
}

function networksOf(boards: readonly Board[]): NetworkModules[] {
  return boards.flatMap(({ networks }) => networks)
}

function forOwnKernel(missing: readonly string[], own: readonly string[]): string[] {
  if (own.every((name) => missing.includes(name))) return []
  return [`# with Raspberry Pi’s own kernel instead: ${moduleLines(own)}`]
}

/** Paths of network drivers in the kernel's tree. */
const driverPattern =
  /\bdrivers\/(?:net\/(?:(?:ethernet|usb|hyperv|vmxnet3|thunderbolt)\/|(?:virtio_net|xen-netfront)\.ko)|usb\/gadget\/(?:legacy\/g_ether|function\/u_ether)|infiniband\/ulp\/ipoib\/)/

/** A module outside of the kernel's own folders may also be a network driver. */
export function mayServeNetwork(modules: readonly KernelModules[]): boolean {
  const files = modules.flatMap((some) => [...some.values()])
  return files.some((file) => driverPattern.test(file) || !file.includes('kernel/'))
}

function pcProblem(modules: readonly KernelModules[]): Problem | undefined {
  if (mayServeNetwork(modules)) return undefined
  return {
    message: 'neither the initrd nor the kernel has a driver for a network interface',
    fix: lines(
      '# the driver of your machine’s interface: lspci -v | grep -iA8 ethernet',
      moduleLines(['e1000e', 'igb', 'igc', 'r8169', 'virtio_pci', 'virtio_net']),
    ),
  }
}

function moduleLines(modules: readonly string[]): string {
  return `boot.initrd.availableKernelModules = [ ${modules.map((name) => `"${name}"`).join(' ')} ];`
}

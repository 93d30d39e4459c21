/** Whether stage 1 has a driver for the machine's network. */
import type { KernelModules } from '../../nixos/kernel-modules.ts'
import { boardsOfSystem, type Board } from '../boards.ts'
import { knownModules } from '../known-modules.ts'
import { wantsNfs } from '../nfs.ts'
import { findPerEntry, lines, type Rule } from '../rule.ts'

export const noNetworkDriver: Rule = {
  name: 'no-network-driver',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      if (!wantsNfs(context, entry)) return []
      const known = await knownModules(context, entry)
      if (!known) return []
      const { builtin, initrd } = known
      const modules = [builtin, initrd?.modules ?? new Map<string, string>()]
      const boards = await boardsOfSystem(context)
      const problem = boards ? boardProblem(boards, modules) : pcProblem(modules)
      return problem ? [{ ...problem, path: entry.initrd ?? entry.kernel }] : []
    })
  },
}

function boardProblem(boards: readonly Board[], modules: readonly KernelModules[]) {
  const has = (name: string) => modules.some((some) => some.has(name))
  const isServed = ({ networkModules }: Board) => networkModules.some((set) => set.every(has))
  if (boards.some(isServed)) return undefined
  const names = boards.map(({ name }) => name).join(' or ')
  const missing = boards
    .flatMap(({ networkModules }) => networkModules.flat())
    .filter((name) => !has(name))
  return {
    message: `neither the initrd nor the kernel has the network driver of a ${names}: ${missing.join(', ')} missing`,
    fix: moduleLines(missing.includes('bcm_phy_lib') ? [...missing, 'broadcom'] : missing),
  }
}

/** Where drivers of network interfaces are in the kernel's tree. */
const driverPattern =
  /\bdrivers\/net\/(?:(?:ethernet|usb|hyperv|vmxnet3)\/|(?:virtio_net|xen-netfront)\.ko)/

function pcProblem(modules: readonly KernelModules[]) {
  const files = modules.flatMap((some) => [...some.values()])
  // Modules that were moved out of the kernel's own folders tell nothing.
  const areOrdered = files.every((file) => file.includes('kernel/'))
  if (!areOrdered || files.some((file) => driverPattern.test(file))) return undefined
  return {
    message: 'neither the initrd nor the kernel has a driver of any network interface',
    fix: lines(
      '# the driver of your machine’s interface: lspci -v | grep -iA8 ethernet',
      moduleLines(['e1000e', 'igb', 'igc', 'r8169', 'virtio_pci', 'virtio_net']),
    ),
  }
}

function moduleLines(modules: readonly string[]): string {
  return `boot.initrd.availableKernelModules = [ ${modules.map((name) => `"${name}"`).join(' ')} ];`
}

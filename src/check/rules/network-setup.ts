/** Whether stage 1 gets an address. */
import { kernelParameter } from '../../boot/kernel-line.ts'
import type { InitrdFacts } from '../../nixos/initrd/facts.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { mountsNfsInStage1 } from '../nfs.ts'
import { findPerEntry, lines, type Problem, type Rule } from '../rule.ts'
import { mayServeNetwork } from './network-driver.ts'

export const noNetworkSetup: Rule = {
  name: 'no-network-setup',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      // If the kernel mounts the root, netimage adds ip=dhcp to the kernel line.
      if (!(await mountsNfsInStage1(context, entry))) return []
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread) return []
      const isIpv6 = context.rootFileSystem?.device.startsWith('[') === true
      const problem =
        (await setupProblem(context, entry, initrd, isIpv6)) ??
        ipv6Problem(context.rootFileSystem?.device, entry, initrd)
      return problem ? [{ ...problem, path: entry.initrd }] : []
    })
  },
}

async function setupProblem(
  context: CheckContext,
  entry: BootEntry,
  initrd: InitrdFacts,
  isIpv6: boolean,
): Promise<Problem | undefined> {
  const ip = kernelParameter(entry, 'ip')
  const hasIp = ip !== undefined && ip !== 'off' && ip !== 'none'
  switch (initrd.init.kind) {
    case 'systemd':
      return systemdProblem(initrd, hasIp, isIpv6)
    case 'scripted': {
      const { script } = initrd.init
      if (getsAddress.test(script)) return undefined
      if (hasIp && (readsIp.test(script) || (await mayGetAddressItself(context, entry)))) {
        return undefined
      }
      const but = hasIp
        ? `nothing reads ip=${ip} of the kernel line: the script does not, and the kernel has no built-in network driver`
        : 'the kernel line has no ip='
      return {
        message: `nothing in stage 1 gets an address: its script starts no DHCP client, and ${but}`,
        fix: lines(
          'boot.initrd.network.enable = true;',
          'boot.initrd.network.udhcpc.enable = true;',
          'boot.initrd.network.flushBeforeStage2 = false;',
        ),
      }
    }
    case 'other':
    case 'none':
      return undefined
  }
}

/**
 * The kernel acts on its own `ip=` before it loads the first module. We cannot see whether the
 * kernel has CONFIG_IP_PNP. NixOS's kernels do not, and it is useless if the network drivers are
 * modules.
 *
 * https://docs.kernel.org/admin-guide/nfs/nfsroot.html
 */
async function mayGetAddressItself(context: CheckContext, entry: BootEntry): Promise<boolean> {
  const builtin = await context.builtinOf(entry)
  return !builtin || mayServeNetwork([builtin])
}

/** NixOS's script asks only for an IPv4 address, which cannot reach an IPv6 server. */
function ipv6Problem(
  device: string | undefined,
  entry: BootEntry,
  { init }: InitrdFacts,
): Problem | undefined {
  if (device?.startsWith('[') !== true || init.kind !== 'scripted') return undefined
  if (kernelParameter(entry, 'ip')?.includes('[') === true || getsIpv6.test(init.script)) {
    return undefined
  }
  return {
    level: 'warning',
    message: `stage 1 asks only for an IPv4 address, but the root is on ${device}`,
    fix: 'boot.initrd.systemd.enable = true;',
  }
}

const readsIp = /\bipconfig\b/
const getsIpv6 = /\b(?:udhcpc6|dhcpcd|dhclient|ip -6 a\w* (?:add|replace)|a(?:ddr)? add [\da-f]*:)/

/** A DHCP client, or a fixed address. */
const getsAddress =
  /\b(?:udhcpc6?|dhcpcd|dhclient|ip (?:-\w+ )*a(?:d|dd|ddr|ddress)? (?:add|replace)|ifconfig \S+ (?:inet )?\d+)\b/
const otherManagers = ['udhcpc', 'dhcpcd', 'dhclient', 'NetworkManager', 'nm-initrd-generator']

/** The lines of a networkd file that give an interface an address. */
export const networkdAddress = /^\s*(?:DHCP\s*=\s*(?:yes|true|on|1|ipv4|ipv6)|Address\s*=\s*\S)/im

/** Without this line, networkd takes the addresses that an IPv6 router announces. */
const noAnnounced = /^\s*IPv6AcceptRA\s*=\s*(?:no|false|off|0)\s*$/im

function systemdProblem(
  { programs, networks }: InitrdFacts,
  hasIp: boolean,
  isIpv6: boolean,
): Problem | undefined {
  const fix = lines(
    'boot.initrd.systemd.network.enable = true;',
    'boot.initrd.systemd.network.networks."10-root" = {',
    '  matchConfig.Type = "ether";',
    `  networkConfig.DHCP = "${isIpv6 ? 'yes' : 'ipv4'}";`,
    '  networkConfig.KeepConfiguration = "yes";',
    '};',
  )
  if (!programs.has('systemd-networkd')) {
    // A unit may start another network manager.
    if (otherManagers.some((name) => programs.has(name))) return undefined
    return {
      message: 'nothing in stage 1 gets an address: the initrd has no systemd-networkd',
      fix,
    }
  }
  // This program turns ip= of the kernel line into a file for networkd.
  if (hasIp && programs.has('systemd-network-generator')) return undefined
  const texts = [...networks.values()]
  if (texts.some((text) => networkdAddress.test(text))) return undefined
  if (isIpv6 && texts.some((text) => !noAnnounced.test(text))) return undefined
  const message =
    'nothing in stage 1 gets an address: systemd-networkd has no network with DHCP or an address, and the kernel line has no ip='
  return { message, fix }
}

/** Whether the network that carries the root stays up after the root is mounted. */
import { isNfs } from '../../nixos/fstab.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { wantsNfs } from '../nfs.ts'
import { findPerEntry, type Problem, type Rule } from '../rule.ts'
import { networkdAddress } from './network-setup.ts'

export const networkTornDown: Rule = {
  name: 'network-torn-down',
  level: 'error',
  async find(context) {
    const [main] = context.system.entries
    if (!main || !(await wantsNfs(context, main))) return []
    return [
      ...(await findPerEntry(context, (entry) => flushedByStage1(context, entry))),
      ...(await findPerEntry(context, (entry) => leaseOfStage1(context, entry))),
      ...(await downByDhcpcd(context)),
      ...(await takenByNetworkManager(context)),
      ...(await changedByNetworkd(context)),
    ]
  },
}

/** NixOS's lines for `boot.initrd.network.flushBeforeStage2` in scripted stage 1. */
const flushInScript = /\bip address flush [^\n]*\n\s*ip link set [^\n]* down\b/
/** The client identifier that loaders and stage 1 send to the DHCP server. */
const sameClient = /^\s*ClientIdentifier\s*=\s*mac\s*$/im
/** Includes the values of systemd before 257, which systemd still accepts. */
const keepsNetwork =
  /^\s*KeepConfiguration\s*=\s*(?:yes|true|on|1|(?:dhcp|dynamic)(?:-on-stop)?|static)\s*$/im
const dropInNetwork = /^\s*KeepConfiguration\s*=\s*(?:no|false|off|0)\s*$/im

async function flushedByStage1(context: CheckContext, entry: BootEntry): Promise<Problem[]> {
  const initrd = await context.initrdOf(entry)
  if (!initrd) return []
  const inScript = initrd.init.kind === 'scripted' && flushInScript.test(initrd.init.script)
  const inNetwork = [...initrd.networks.values()].some((text) => dropInNetwork.test(text))
  if (!inScript && !inNetwork) return []
  const message =
    'stage 1 takes the network down before stage 2 begins, and stage 2 hangs when it reads from the root'
  const fix = 'boot.initrd.network.flushBeforeStage2 = false;'
  return [{ message, fix, path: entry.initrd }]
}

async function downByDhcpcd(context: CheckContext): Promise<Problem[]> {
  const path = `${context.system.toplevel}/etc/systemd/system/dhcpcd.service`
  const unit = await context.storeText(path)
  const command = unit && /^ExecStart=.*$/m.exec(unit)?.[0]
  if (command === undefined || command === '' || /\s(?:--persistent|-p)\b/.test(command)) return []
  const [, file] = /\s--config[ =](\/nix\/store\/\S+)/.exec(command) ?? []
  const settings = file === undefined ? undefined : await context.storeText(file)
  if (settings !== undefined && /^\s*persistent\s*$/m.test(settings)) return []
  if (settings !== undefined && leavesEthernet(settings)) return []
  return [
    {
      level: 'warning',
      message:
        'dhcpcd takes the interface down when it stops: the machine hangs at shutdown and at a restart of the service',
      fix: 'networking.dhcpcd.persistent = true;',
      path,
    },
  ]
}

/** dhcpcd.conf(5): `denyinterfaces` and `allowinterfaces`. */
function leavesEthernet(settings: string): boolean {
  const listed = (word: string) =>
    [...settings.matchAll(new RegExp(`^\\s*${word}\\s+(.*)$`, 'gm'))].flatMap(([, names = '']) =>
      names.split(/[\s,]+/).filter((name) => name !== ''),
    )
  const mayBeEthernet = (name: string) => /^(?:[*?[]|e(?:n|th|[*?[]))/.test(name)
  const allowed = listed('allowinterfaces')
  return (
    listed('denyinterfaces').some(mayBeEthernet) ||
    // A custom name may be the name of the wired interface.
    (allowed.length > 0 && allowed.every((name) => notWired.test(name)))
  )
}

/**
 * `ethernet`: NetworkManager manages wired interfaces, which may carry the root. `others`: its
 * settings exclude them, or its settings are not known. Undefined: it does not run.
 */
async function managedByNetworkManager(
  context: CheckContext,
): Promise<'ethernet' | 'others' | undefined> {
  const etc = `${context.system.toplevel}/etc`
  if (!(await context.storeFile(`${etc}/systemd/system/NetworkManager.service`))) return undefined
  const settings = await context.storeText(`${etc}/NetworkManager/NetworkManager.conf`)
  if (settings === undefined) return 'others'
  const [, unmanaged = ''] = /^\s*unmanaged-devices\s*=\s*(.*)$/m.exec(settings) ?? []
  return leftByNetworkManager(unmanaged) ? 'others' : 'ethernet'
}

/**
 * NetworkManager.conf(5), "Device list format": `except:` wins over the other elements. A list that
 * has only `except:` matches all other devices.
 */
function leftByNetworkManager(list: string): boolean {
  const devices = list.split(/[;,]/).flatMap((device) => device.trim() || [])
  const mayBeEthernet = (device: string) =>
    !/^type:(?!ethernet\b)/.test(device) &&
    !notWired.test(device.replace(/^(?:interface-name:)?=?/, ''))
  const isException = (device: string) => device.startsWith('except:')
  const excepted = devices.filter(isException).map((device) => device.slice('except:'.length))
  if (excepted.some(mayBeEthernet)) return false
  const named = devices.filter((device) => !isException(device))
  return named.length === 0 ? excepted.length > 0 : named.some(mayBeEthernet)
}

/** The usual names of interfaces that are not wired interfaces of the machine. */
const notWired = /^(?:wl|ww|lo\b|br|virbr|docker|veth|tun|tap|wg)/

async function takenByNetworkManager(context: CheckContext): Promise<Problem[]> {
  if ((await managedByNetworkManager(context)) !== 'ethernet') return []
  return [
    {
      level: 'warning',
      message: 'NetworkManager manages every interface, also the interface that carries the root',
      fix: 'networking.networkmanager.unmanaged = [ "type:ethernet" ];',
      path: `${context.system.toplevel}/etc/systemd/system/NetworkManager.service`,
    },
  ]
}

const dhcp4Network = /^\s*DHCP\s*=\s*(?:yes|true|on|1|ipv4)\s*$/im
const keptNetwork = /^\s*KeepConfiguration\s*=\s*(?:yes|true|on|1|dhcp|dynamic)\s*$/im

/** The address of systemd's stage 1 stays in stage 2, but only until the lease ends. */
async function leaseOfStage1(context: CheckContext, entry: BootEntry): Promise<Problem[]> {
  const initrd = await context.initrdOf(entry)
  if (initrd?.init.kind !== 'systemd') return []
  const units = `${context.system.toplevel}/etc/systemd/system`
  for (const unit of ['systemd-networkd.service', 'dhcpcd.service']) {
    if (await context.storeFile(`${units}/${unit}`)) return []
  }
  if ((await managedByNetworkManager(context)) === 'ethernet') return []
  const expiring = [...initrd.networks].find(
    ([, text]) => dhcp4Network.test(text) && !keptNetwork.test(text),
  )
  if (!expiring) return []
  const name = /([^/]*)\.network$/.exec(expiring[0])?.[1] ?? '10-root'
  return [
    {
      level: 'warning',
      message:
        'the machine loses its address and its root when the lease of stage 1 ends: nothing in stage 2 renews the lease',
      fix: `boot.initrd.systemd.network.networks."${name}".networkConfig.KeepConfiguration = "yes";`,
      path: entry.initrd,
    },
  ]
}

async function changedByNetworkd(context: CheckContext): Promise<Problem[]> {
  const etc = `${context.system.toplevel}/etc/systemd`
  if (!(await context.storeFile(`${etc}/system/systemd-networkd.service`))) return []
  const problems: Problem[] = []
  // If / is on NFS, networkd keeps the addresses. It does not look for a separate mount of the
  // store.
  const isKept = context.system.fileSystems.some(
    (fileSystem) => fileSystem.mountPoint === '/' && isNfs(fileSystem),
  )
  for (const file of await context.storeNames(`${etc}/network`)) {
    if (!file.endsWith('.network')) continue
    const path = `${etc}/network/${file}`
    const text = (await context.storeText(path)) ?? ''
    const name = file.slice(0, -'.network'.length)
    const isOfRoot = networkdAddress.test(text)
    if (dropInNetwork.test(text) || (!isKept && isOfRoot && !keepsNetwork.test(text))) {
      problems.push({
        level: 'warning',
        message: `networkd drops the addresses of ${name} when it stops, and the machine loses its root`,
        fix: `systemd.network.networks."${name}".networkConfig.KeepConfiguration = "yes";`,
        path,
      })
    }
    // systemd ignores the key in networkd.conf.
    if (dhcp4Network.test(text) && !sameClient.test(text)) {
      problems.push({
        level: 'note',
        message: `networkd asks for the address of ${name} with another client identifier than loaders and stage 1: the DHCP server may give another address`,
        fix: `systemd.network.networks."${name}".dhcpV4Config.ClientIdentifier = "mac";`,
        path,
      })
    }
  }
  return problems
}

/** Whether the network that the root comes through is left alone once there is a root. */
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { wantsNfs } from '../nfs.ts'
import { findPerEntry, type Problem, type Rule } from '../rule.ts'

export const networkTornDown: Rule = {
  name: 'network-torn-down',
  level: 'error',
  async find(context) {
    const [main] = context.system.entries
    if (!main || !wantsNfs(context, main)) return []
    return [
      ...(await findPerEntry(context, (entry) => flushedByStage1(context, entry))),
      ...(await downByDhcpcd(context)),
      ...(await takenByNetworkManager(context)),
      ...(await changedByNetworkd(context)),
    ]
  },
}

/** What NixOS writes for `boot.initrd.network.flushBeforeStage2`, by the kind of its stage 1. */
const flushInScript = /\bip address flush [^\n]*\n\s*ip link set [^\n]* down\b/
/** As loaders and stage 1 name the machine to the DHCP server. */
const sameClient = /^\s*ClientIdentifier\s*=\s*mac\s*$/im
const dropInNetwork = /^\s*KeepConfiguration\s*=\s*(?:no|false|off|0)\s*$/im

async function flushedByStage1(context: CheckContext, entry: BootEntry): Promise<Problem[]> {
  const initrd = await context.initrdOf(entry)
  if (!initrd) return []
  const inScript = initrd.init.kind === 'scripted' && flushInScript.test(initrd.init.script)
  const inNetwork = [...initrd.networks.values()].some((text) => dropInNetwork.test(text))
  if (!inScript && !inNetwork) return []
  const message =
    'stage 1 takes the network down before stage 2 begins, which hangs as soon as it reads from the root'
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
  return [
    {
      level: 'warning',
      message:
        'dhcpcd takes the interface down when it stops: the machine hangs when it shuts down, and when the service is restarted',
      fix: 'networking.dhcpcd.persistent = true;',
      path,
    },
  ]
}

async function takenByNetworkManager(context: CheckContext): Promise<Problem[]> {
  const etc = `${context.system.toplevel}/etc`
  const path = `${etc}/systemd/system/NetworkManager.service`
  if (!(await context.storeFile(path))) return []
  const settings = await context.storeText(`${etc}/NetworkManager/NetworkManager.conf`)
  if (settings === undefined || /^\s*unmanaged-devices\s*=\s*\S/m.test(settings)) return []
  return [
    {
      level: 'warning',
      message: 'NetworkManager manages every interface, also the one that the root comes through',
      fix: 'networking.networkmanager.unmanaged = [ "type:ethernet" ];',
      path,
    },
  ]
}

async function changedByNetworkd(context: CheckContext): Promise<Problem[]> {
  const etc = `${context.system.toplevel}/etc/systemd`
  if (!(await context.storeFile(`${etc}/system/systemd-networkd.service`))) return []
  const problems: Problem[] = []
  const isSameClient = sameClient.test((await context.storeText(`${etc}/networkd.conf`)) ?? '')
  for (const file of await context.storeNames(`${etc}/network`)) {
    if (!file.endsWith('.network')) continue
    const path = `${etc}/network/${file}`
    const text = (await context.storeText(path)) ?? ''
    const name = file.slice(0, -'.network'.length)
    if (dropInNetwork.test(text)) {
      problems.push({
        level: 'warning',
        message: `networkd drops the addresses of ${name} when it stops, and with them the root`,
        fix: `systemd.network.networks."${name}".networkConfig.KeepConfiguration = "yes";`,
        path,
      })
    }
    if (
      /^\s*DHCP\s*=\s*(?:yes|true|on|1|ipv4)\s*$/im.test(text) &&
      !isSameClient &&
      !sameClient.test(text)
    ) {
      problems.push({
        level: 'note',
        message: `networkd asks for the address of ${name} with another client identifier than loaders and stage 1 do: the DHCP server may give another address`,
        fix: `systemd.network.networks."${name}".dhcpV4Config.ClientIdentifier = "mac";`,
        path,
      })
    }
  }
  return problems
}

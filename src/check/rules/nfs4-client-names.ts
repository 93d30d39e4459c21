/** Whether machines of one image are told apart by an NFSv4 server. */
import type { InitrdFacts } from '../../nixos/initrd/facts.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { mountsNfsInStage1, wantedNfsVersion } from '../nfs.ts'
import { findPerEntry, lines, type Rule } from '../rule.ts'

export const nfs4ClientNames: Rule = {
  name: 'nfs4-client-names',
  level: 'warning',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread || initrd.namesNfsClient) return []
      const { kind } = initrd.init
      if ((kind !== 'systemd' && kind !== 'scripted') || !mountsVersion4(context, entry, initrd)) {
        return []
      }
      return [
        {
          message:
            'machines with this image have one name in stage 1, and over version 4 of NFS the server takes all of them for one client: they lose each other’s locks',
          fix: kind === 'systemd' ? systemdFix : scriptedFix,
          path: entry.initrd,
        },
      ]
    })
  },
}

function mountsVersion4(context: CheckContext, entry: BootEntry, initrd: InitrdFacts): boolean {
  // A kernel that mounts by itself has the address of `ip=dhcp` for a name.
  if (!mountsNfsInStage1(context, entry)) return false
  const version = wantedNfsVersion(context, entry)
  // mount.nfs begins with the newest version, busybox with 3.
  return version === undefined ? initrd.programs.has('mount.nfs') : version.startsWith('4')
}

/** docs.kernel.org/filesystems/nfs/client-identifier.html */
const setName =
  'cat /sys/class/net/*/device/net/*/address | head -n 1 > /sys/module/nfs/parameters/nfs4_unique_id'

const scriptedFix = lines("boot.initrd.postDeviceCommands = ''", `  ${setName}`, "'';")

const systemdFix = lines(
  'boot.initrd.systemd.services.nfs4-client-name = {',
  '  wantedBy = [ "initrd-root-fs.target" ];',
  '  wants = [ "network-online.target" ];',
  '  after = [ "network-online.target" "systemd-modules-load.service" ];',
  '  before = [ "sysroot.mount" ];',
  '  unitConfig.DefaultDependencies = false;',
  '  serviceConfig.Type = "oneshot";',
  "  script = ''",
  `    ${setName}`,
  "  '';",
  '};',
)

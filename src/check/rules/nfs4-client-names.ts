/** Whether machines of one image are told apart by an NFSv4 server. */
import { mountedNfsVersion, mountsNfsInStage1 } from '../nfs.ts'
import { findPerEntry, lines, type Rule } from '../rule.ts'

export const nfs4ClientNames: Rule = {
  name: 'nfs4-client-names',
  level: 'warning',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread || initrd.namesNfsClient) return []
      const { kind } = initrd.init
      if (kind !== 'systemd' && kind !== 'scripted') return []
      // A kernel that mounts by itself has the address of `ip=dhcp` for a name.
      if (!(await mountsNfsInStage1(context, entry))) return []
      if ((await mountedNfsVersion(context, entry))?.startsWith('4') !== true) return []
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

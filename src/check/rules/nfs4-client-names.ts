/** Whether an NFSv4 server can tell the machines of one image apart. */
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
      // A kernel that mounts the root itself uses its address from `ip=dhcp` as the name.
      if (!(await mountsNfsInStage1(context, entry))) return []
      if ((await mountedNfsVersion(context, entry))?.startsWith('4') !== true) return []
      return [
        {
          message:
            'all machines with this image have the same name in stage 1, so an NFSv4 server takes them for one client: a machine that boots takes the locks of the others',
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

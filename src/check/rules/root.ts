/** Whether the machine mounts the root that it is meant to mount. */
import { isIP } from 'node:net'

import { kernelParameter } from '../../boot/kernel-line.ts'
import { isNfs } from '../../nixos/fstab.ts'
import { findMountedRoot, nfsVersionOf, type NfsRoot } from '../../nixos/nfs-root.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { mountedNfsVersion, mountHelper, readNfsRoot, wantedNfsVersion } from '../nfs.ts'
import { findPerEntry, lines, type Problem, type Rule } from '../rule.ts'

export const rootNotNfs: Rule = {
  name: 'root-not-nfs',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const message = await whyNotNfs(context, entry)
      if (message === undefined) return []
      const store = context.rootFileSystem?.mountPoint
      const mountPoint = store?.startsWith('/nix') ? store : '/'
      const fix = rootLines(context.nfsRoot, mountPoint)
      return [{ message, fix, path: fstabOf(context) }]
    })
  },
}

async function whyNotNfs(context: CheckContext, entry: BootEntry): Promise<string | undefined> {
  const { system, rootFileSystem } = context
  const root = kernelParameter(entry, 'root')
  if ((await context.rootMountOf(entry)).by === 'kernel-line') return undefined
  if (root !== undefined && root !== 'fstab' && root !== '/dev/nfs') {
    const initrd = await context.initrdOf(entry)
    // NixOS's script ignores `root=` if the fstab names a root.
    if (initrd?.init.kind !== 'systemd') return undefined
    return `the kernel line has root=${root}, so stage 1 mounts this device and no NFS root`
  }
  if (!rootFileSystem) return 'the fstab names no root, and the kernel line has root=fstab'
  // The initrd mounts the layers of an overlay, and their paths may have any names there.
  const mayBeLower = rootFileSystem.type === 'overlay' && system.fileSystems.some(isNfs)
  if (isNfs(rootFileSystem) || mayBeLower) return undefined
  const { mountPoint, device, type } = rootFileSystem
  return `${mountPoint} is mounted from ${device} (${type}), not from NFS`
}

export const rootMismatch: Rule = {
  name: 'root-mismatch',
  level: 'error',
  async find(context) {
    const { nfsRoot, system } = context
    if (!nfsRoot) return []
    return await findPerEntry(context, async (entry) => {
      const byKernel = (await context.rootMountOf(entry)).by === 'kernel-line'
      const named = byKernel ? kernelParameter(entry, 'nfsroot') : undefined
      const inFstab = byKernel ? undefined : findMountedRoot(system.fileSystems)
      const mounted =
        inFstab === undefined
          ? readNfsRoot(named ?? '')
          : { ...inFstab, server: (await addressInOptions(context, entry)) ?? inFstab.server }
      if (!mounted || isSameRoot(mounted, nfsRoot)) return []
      const where = byKernel ? 'nfsroot= of the kernel line' : 'the fstab'
      const message = `the machine mounts ${describe(mounted)} (${where}), but nfsRoot is ${describe(nfsRoot)}`
      const version = await wantedNfsVersion(context, entry)
      const settled = `netimage build … --nfs-root ${describe(mounted)}${version === undefined ? '' : `,v${version}`}`
      const fix = inFstab
        ? lines(settled, 'or', rootLines(nfsRoot, inFstab.fileSystem.mountPoint))
        : settled
      return [{ message, fix, path: fstabOf(context) }]
    })
  },
}

/**
 * The server of the option `addr=`. The kernel prefers it to the server of the device, unless
 * mount.nfs replaces it.
 */
async function addressInOptions(
  context: CheckContext,
  entry: BootEntry,
): Promise<string | undefined> {
  const named = context.rootFileSystem?.options.findLast((option) => option.startsWith('addr='))
  const initrd = named === undefined ? undefined : await context.initrdOf(entry)
  if (!initrd || initrd.unread || mountHelper(initrd) !== undefined) return undefined
  return named?.slice('addr='.length)
}

type RootTree = Pick<NfsRoot, 'server' | 'path'>

/** Names are not resolved. A name and an address count as the same server. */
function isSameRoot(a: RootTree, b: RootTree): boolean {
  if (trimSlashes(a.path) !== trimSlashes(b.path)) return false
  if (a.server === undefined || b.server === undefined) return true
  if (isIP(a.server) !== isIP(b.server)) return true
  return a.server.toLowerCase() === b.server.toLowerCase()
}

function trimSlashes(path: string): string {
  return path.replace(/\/+$/, '')
}

/** The root tree in the form of a device of an fstab. */
function describe({ server, path }: RootTree): string {
  if (server === undefined) return path
  return `${isIP(server) === 6 ? `[${server}]` : server}:${path}`
}

export const nfsOptionsInDevice: Rule = {
  name: 'nfs-options-in-device',
  level: 'error',
  find(context) {
    const problems: Problem[] = []
    for (const fileSystem of context.system.fileSystems.filter(isNfs)) {
      const { device, mountPoint, type, options } = fileSystem
      const [, whole = '', inDevice = ''] = deviceOptions.exec(device) ?? []
      if (inDevice === '') continue
      const mended = [...inDevice.split(',').map(asMountOption), ...options]
      if (mended.includes('vers=3') && !mended.includes('nolock')) mended.push('nolock')
      problems.push({
        message: `the device of ${mountPoint} is ${device}, and ,${inDevice} counts as a part of the path: only nfsroot= of the kernel line may have options there`,
        fix: fileSystemLines(mountPoint, whole, type, [...new Set(mended)]),
        path: fstabOf(context),
      })
    }
    return problems
  },
}

/** A path may have a comma. So the text after the comma must look like options of nfs(5). */
const deviceOptions =
  /^([^,]+),((?:v[234](?:\.\d)?|(?:no)?(?:lock|ac|acl|cto)|tcp|udp|r[ow]|hard|soft|(?:nfs)?vers=[\d.]+|(?:proto|port|mountport|rsize|wsize|timeo|retrans|sec)=\w+)(?:,[^/]*)?)$/

/** Only the kernel line allows `v3`. */
function asMountOption(option: string): string {
  return option.replace(/^v(?=\d)/, 'vers=')
}

export const nfsrootAndFstab: Rule = {
  name: 'nfsroot-and-fstab',
  level: 'warning',
  async find(context) {
    return await findPerEntry(context, (entry) => {
      const params = entry.kernelParams
      const nfsRoot = params.find((param) => param.startsWith('nfsroot='))
      const asks = params.includes('root=/dev/nfs') ? 'root=/dev/nfs' : nfsRoot
      if (!params.includes('root=fstab') || asks === undefined) return []
      const message = `the kernel line has both root=fstab and ${asks}: systemd’s stage 1 mounts the root of the fstab and ignores the other`
      const fix = lines(
        '# boot.kernelParams: remove root=/dev/nfs and nfsroot=…, and name the root here',
        rootLines(context.nfsRoot),
      )
      return [{ message, fix, path: context.system.toplevel }]
    })
  },
}

/** Only for version 3: in version 4 locks are part of the protocol. */
export const nfsLock: Rule = {
  name: 'nfs-lock',
  level: 'error',
  async find(context) {
    const { system, rootFileSystem: root } = context
    const [main] = system.entries
    if (!main || !root || !isNfs(root)) return []
    // The last option counts. Another rule reports options in the device.
    const lock = root.options.findLast((option) => /^(?:no)?lock$/.test(option))
    if (lock === 'nolock' || deviceOptions.test(root.device)) return []
    // The kernel's nfsroot= never uses locks.
    if ((await context.rootMountOf(main)).by === 'kernel-line') return []
    if ((await mountedNfsVersion(context, main)) !== '3') return []
    // With local locks the kernel needs no statd, but mount.nfs looks for it anyway.
    const isLocal = root.options.includes('local_lock=all')
    const initrd = isLocal ? await context.initrdOf(main) : undefined
    if (initrd && mountHelper(initrd) === undefined) return []
    return [
      {
        message: `${root.mountPoint} is mounted with version 3 of NFS and without nolock: locks need rpcbind and statd, which do not run before the root is mounted`,
        fix: fileSystemLines(root.mountPoint, root.device, root.type, [
          ...(nfsVersionOf(root) === undefined ? ['vers=3'] : []),
          ...root.options.filter((option) => option !== 'lock'),
          'nolock',
        ]),
        path: fstabOf(context),
      },
    ]
  },
}

function fstabOf({ system }: CheckContext): string {
  return `${system.toplevel}/etc/fstab`
}

function rootLines(nfsRoot: NfsRoot | undefined, mountPoint = '/'): string {
  const root = nfsRoot ? describe(nfsRoot) : '192.168.0.108:/srv/nixos'
  const device = mountPoint === '/' ? root : trimSlashes(root) + mountPoint
  const version = nfsRoot?.version ?? '3'
  const locks = version.startsWith('4') ? [] : ['nolock']
  const isIpv6 = nfsRoot?.server !== undefined && isIP(nfsRoot.server) === 6
  const protocol = isIpv6 ? 'proto=tcp6' : 'proto=tcp'
  return fileSystemLines(mountPoint, device, 'nfs', [`vers=${version}`, protocol, ...locks])
}

function fileSystemLines(
  mountPoint: string,
  device: string,
  type: string,
  options: readonly string[],
): string {
  // NixOS adds x-initrd.mount itself, and `defaults` has no effect.
  const own = options.filter((option) => !/^(?:defaults|x-initrd\.mount)$/.test(option))
  return lines(
    `fileSystems."${mountPoint}" = {`,
    `  device = "${device}";`,
    `  fsType = "${type}";`,
    `  options = [ ${own.map((option) => `"${option}"`).join(' ')} ];`,
    '};',
  )
}

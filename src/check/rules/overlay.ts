/** Overlays that write to NFS. The kernel does not accept NFS as an upper layer. */
import { posix } from 'node:path'

import { isNfs, type FileSystem } from '../../nixos/fstab.ts'
import { fileSystemOf } from '../../nixos/root-file-system.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { findPerEntry, lines, type Level, type Problem, type Rule } from '../rule.ts'

export const overlayOnNfs: Rule = {
  name: 'overlay-on-nfs',
  level: 'error',
  async find(context) {
    return [
      ...overlaysOfFstab(context),
      ...(await findPerEntry(context, (entry) => overlaysOfStage1(context, entry))),
      ...(await overlaysOfStage2(context)),
      ...(await layersOfContainers(context)),
    ]
  },
}

interface Overlay {
  mountPoint: string
  options: readonly string[]
}

function overlaysOfFstab(context: CheckContext): Problem[] {
  const path = `${context.system.toplevel}/etc/fstab`
  return context.system.fileSystems.flatMap((fileSystem) => {
    const { type, options } = fileSystem
    if (type !== 'overlay' || options.includes('noauto')) return []
    const level = options.includes('nofail') ? 'warning' : 'error'
    return overlayProblem(context, fileSystem, level, path)
  })
}

/** For example the overlay of `system.etc.overlay`, which a unit of the initrd mounts. */
async function overlaysOfStage1(context: CheckContext, entry: BootEntry): Promise<Problem[]> {
  const texts = (await context.initrdOf(entry))?.mounts.values() ?? []
  return [...texts].flatMap((text) => {
    const overlay = readOverlayUnit(text)
    // Paths outside of /sysroot are in the memory of the initrd.
    if (!overlay || !upperOf(overlay)?.startsWith('/sysroot/')) return []
    return overlayProblem(context, overlay, 'error', entry.initrd)
  })
}

async function overlaysOfStage2(context: CheckContext): Promise<Problem[]> {
  const units = `${context.system.toplevel}/etc/systemd/system`
  const problems: Problem[] = []
  for (const name of await context.storeNames(units)) {
    if (!name.endsWith('.mount')) continue
    const path = `${units}/${name}`
    const overlay = readOverlayUnit((await context.storeText(path)) ?? '')
    if (overlay) problems.push(...overlayProblem(context, overlay, 'warning', path))
  }
  return problems
}

/** systemd.mount(5) */
function readOverlayUnit(text: string): Overlay | undefined {
  const valueOf = (key: string) =>
    new RegExp(`^\\s*${key}\\s*=\\s*(.*?)\\s*$`, 'm').exec(text)?.[1] ?? ''
  if (valueOf('Type') !== 'overlay') return undefined
  return { mountPoint: valueOf('Where'), options: valueOf('Options').split(',') }
}

function upperOf({ options }: Overlay): string | undefined {
  const upper = options.findLast((option) => option.startsWith('upperdir='))
  return upper?.slice('upperdir='.length)
}

/** @param overlay may be an entry of the fstab; it does not hold its own upper layer */
function overlayProblem(
  context: CheckContext,
  overlay: Overlay,
  level: Level,
  path: string | undefined,
): Problem[] {
  const upper = upperOf(overlay)
  if (upper === undefined) return []
  const others = context.system.fileSystems.filter((other) => other !== overlay)
  const holder = fileSystemOf(upper, others)
  if (!holder || !isNfs(holder)) return []
  const mountPoint = onMachine(overlay.mountPoint)
  return [
    {
      level,
      message: `${mountPoint} is an overlay that writes to ${onMachine(upper)}, which is on NFS (${holder.device}): the mount fails, because the kernel refuses an upper layer on NFS`,
      fix: mountPoint === '/etc' ? etcFix : upperFix(onMachine(upper)),
      path,
    },
  ]
}

function onMachine(path: string): string {
  return path.replace(/^\/sysroot(?=\/)/, '')
}

function upperFix(upper: string): string {
  return lines(
    '# files that are written there are lost at each boot',
    `fileSystems."${posix.dirname(upper)}" = {`,
    '  device = "tmpfs";',
    '  fsType = "tmpfs";',
    '  options = [ "mode=0755" ];',
    '  neededForBoot = true;',
    '};',
  )
}

const etcFix = lines(
  'system.etc.overlay.mutable = false;',
  '# or, if programs must write to /etc (until the next boot):',
  ...upperFix('/.rw-etc/upper')
    .split('\n')
    .slice(1)
    .map((line) => `# ${line}`),
)

/** The folders for layers of images, which these services mount as overlays. */
const containerEngines: Record<string, string> = {
  'docker.service': '/var/lib/docker',
  'containerd.service': '/var/lib/containerd',
  'crio.service': '/var/lib/containers',
  'podman.service': '/var/lib/containers',
  'k3s.service': '/var/lib/rancher',
}

async function layersOfContainers(context: CheckContext): Promise<Problem[]> {
  const units = `${context.system.toplevel}/etc/systemd/system`
  const names = new Set(await context.storeNames(units))
  return Object.entries(containerEngines).flatMap(([unit, directory]) => {
    const holder = names.has(unit) ? holderOf(context, directory) : undefined
    if (!holder || !isNfs(holder)) return []
    return [
      {
        level: 'warning',
        message: `${unit} keeps the layers of its containers in ${directory}, which is on NFS (${holder.device}): the kernel makes no overlays there, so containers do not start, or each container has a whole copy of its image`,
        fix: lines(
          `fileSystems."${directory}" = {`,
          '  device = "/dev/disk/by-label/containers";  # a disk of the machine, or fsType = "tmpfs"',
          '  fsType = "ext4";',
          '};',
        ),
        path: `${units}/${unit}`,
      },
    ]
  })
}

function holderOf({ system }: CheckContext, path: string): FileSystem | undefined {
  return fileSystemOf(path, system.fileSystems)
}

import { Command } from '@commander-js/extra-typings'

import type { Inspection, InspectRequest } from '../image/inspect.ts'
import { withoutUndefined } from '../without-undefined.ts'
import { jsonOption } from './common-options.ts'
import { formatBytes } from './format.ts'
import { plural } from '../progress.ts'
import { runCommand } from './run.ts'
import * as stores from './store-options.ts'

export function inspectCommand() {
  return new Command('inspect')
    .description('Describe a system or an image')
    .argument('<subject>', 'a system, as for build, or an image')
    .addOption(stores.fromOption)
    .addOption(stores.keysOption)
    .addOption(stores.noCheckSigsOption)
    .addOption(stores.netrcOption)
    .addOption(stores.poolOption)
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
    .action((subject, flags) =>
      runCommand(flags, async ({ signal, progress }) => {
        const { inspect } = await import('../image/inspect.ts')
        const inspection = await inspect({
          subject,
          signal,
          progress,
          ...stores.storeChoice(flags),
          ...withoutUndefined<Omit<InspectRequest, 'subject'>>({ pool: flags.pool }),
        })
        return { json: inspection, text: describe(inspection) }
      }),
    )
}

const mounters = { initrd: 'the initrd', 'kernel-line': 'the kernel line' }

function describe(inspection: Inspection): string {
  const { kind, system, rootFileSystem, rootMount, closure, image } = inspection
  const root = rootFileSystem
    ? `${rootFileSystem.device} (${rootFileSystem.type}, ${rootFileSystem.options.join(',')})`
    : 'none in the fstab'
  const [main] = system.entries
  const rows: [string, string][] = [
    [kind, system.toplevel],
    ['label', system.label],
    ['platform', system.platform],
    ['kernel', main?.kernel ?? 'none'],
    ['initrd', main?.initrd ?? 'none'],
    ['kernel line', main?.kernelParams.join(' ') ?? ''],
    ['root file system', root],
    ['mounted by', rootMount ? `${mounters[rootMount.by]}: ${rootMount.why}` : 'nothing'],
  ]
  const nfsRoot = image?.nfsRoot ?? inspection.nfsRoot
  if (image) rows.push(['root tree', `${image.rootDirectoryName} (${image.format})`])
  if (nfsRoot) {
    const { server = 'the server that answers DHCP', path, version = 'default' } = nfsRoot
    rows.push(['NFS root', `${path} on ${server}, version ${version}`])
  }
  if (image) rows.push(['boot tree', plural(image.bootFiles, 'file')])
  rows.push(['closure', `${plural(closure.paths, 'path')}, ${formatBytes(closure.bytes)}`])
  const lines = rows.map(([name, value]) => `${name.padEnd(18)}${value}`)
  lines.push('', 'entries')
  for (const { specialisation = 'default', label, init } of system.entries) {
    lines.push(`  ${specialisation.padEnd(16)}${label}  ${init}`)
  }
  lines.push('', 'largest paths')
  for (const { path, narSize } of closure.largest) {
    lines.push(`  ${formatBytes(narSize).padStart(10)}  ${path}`)
  }
  return lines.join('\n')
}

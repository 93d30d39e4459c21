import { statSync } from 'node:fs'

import { Command, Option } from '@commander-js/extra-typings'

import { exitStatus, NetimageError } from '../errors.ts'
import { visible } from '../printable.ts'
import { plural } from '../progress.ts'
import type { LayerRecord } from '../roots/record.ts'
import type { StoredLayer } from '../roots/stored-layer.ts'
import { chooseLayer, chooseLayers, chooseUsedLayers, shortId } from './choose-layers.ts'
import { jsonOption, machineArgument, stateOption } from './common-options.ts'
import { formatBytes, formatTime } from './format.ts'
import { mustKeepOwnSystem } from './keep-own-system.ts'
import { asData, runCommand, type Outcome } from './run.ts'

export function layersCommand() {
  const layers = new Command('layers').description(
    'Manage the files that machines wrote over their images',
  )
  const make = [list, show, reset, remove, snapshot, restore, verify]
  for (const command of make) layers.addCommand(command().exitOverride())
  return layers
}

const imageOption = new Option(
  '--image <image>',
  "only layers over this image: its directory, its root directory's name, or its id in `list`",
)

function list() {
  return new Command('list')
    .description('Show all layers')
    .addOption(stateOption)
    .option(...jsonOption)
    .action((flags) =>
      runCommand(flags, async () => {
        const layers = []
        for (const layer of await chooseLayers(undefined, flags)) {
          layers.push(await describeIfPossible(layer))
        }
        return { text: layers.map(inLine).join('\n') || 'no layers yet', json: { layers } }
      }),
    )
}

function show() {
  return new Command('show')
    .description('Show the layers of a machine and their snapshots')
    .argument(...machineArgument)
    .addOption(stateOption)
    .addOption(imageOption)
    .option(...jsonOption)
    .action((machine, flags) =>
      runCommand(flags, async () => {
        const { listSnapshots } = await import('../roots/snapshots.ts')
        const layers = []
        const lines: string[] = []
        for (const layer of await chooseLayers(machine, flags)) {
          const described = await describe(layer)
          const snapshots = listSnapshots(layer)
          layers.push({ ...described, snapshots })
          lines.push(inLine(described), `  in ${layer.directory}`)
          for (const { path, why } of described.record?.kept?.files ?? []) {
            lines.push(`  kept ${visible(path)}  ${why}`)
          }
          const more = described.record?.kept?.more ?? 0
          if (more > 0) lines.push(`  kept ${plural(more, 'more file')}`)
          for (const { name, created, bytes } of snapshots) {
            lines.push(`  snapshot ${name}  ${formatTime(created)}  ${formatBytes(bytes)}`)
          }
        }
        return { text: lines.join('\n'), json: { layers } }
      }),
    )
}

function reset() {
  return new Command('reset')
    .description('Remove all that a machine has written, but not its snapshots')
    .argument(...machineArgument)
    .addOption(stateOption)
    .addOption(imageOption)
    .option(...jsonOption)
    .action((machine, flags) =>
      runCommand(flags, async ({ progress }) => {
        const warn = (message: string) => progress.warn(message)
        const { resetLayer } = await import('../roots/store.ts')
        const layers = await chooseUsedLayers(machine, flags)
        for (const layer of layers) await mustKeepOwnSystem(flags.state, layer)
        for (const layer of layers) await resetLayer(layer, warn)
        return done(layers, `reset ${plural(layers.length, 'layer')} of ${machine}`)
      }),
    )
}

function remove() {
  return new Command('remove')
    .description('Remove the layers of a machine with their snapshots, or only one snapshot')
    .argument(...machineArgument)
    .option('--snapshot <name>', 'remove only this snapshot')
    .addOption(stateOption)
    .addOption(imageOption)
    .option(...jsonOption)
    .action((machine, flags) =>
      runCommand(flags, async ({ progress }) => {
        const warn = (message: string) => progress.warn(message)
        const { snapshot: name } = flags
        if (name !== undefined) {
          const { removeSnapshot } = await import('../roots/snapshots.ts')
          const layer = await chooseLayer(machine, flags)
          await removeSnapshot(layer, name, warn)
          return done([layer], `removed the snapshot ${name} of ${machine}`)
        }
        const { removeLayer } = await import('../roots/store.ts')
        const layers = await chooseLayers(machine, flags)
        for (const layer of layers) await mustKeepOwnSystem(flags.state, layer)
        for (const layer of layers) await removeLayer(layer, warn)
        return done(layers, `removed ${plural(layers.length, 'layer')} of ${machine}`)
      }),
    )
}

function snapshot() {
  return new Command('snapshot')
    .description('Keep a copy of all that a machine has written until now')
    .argument(...machineArgument)
    .argument('<name>', 'the name of the snapshot')
    .addOption(stateOption)
    .addOption(imageOption)
    .option(...jsonOption)
    .action((machine, name, flags) =>
      runCommand(flags, async () => {
        const { takeSnapshot } = await import('../roots/snapshots.ts')
        const { mustBeFreeName } = await import('../roots/state-snapshots.ts')
        mustBeFreeName(name)
        const layer = await chooseLayer(machine, flags)
        await takeSnapshot(layer, name)
        return done([layer], `took the snapshot ${name} of ${machine}`)
      }),
    )
}

function restore() {
  return new Command('restore')
    .description('Replace all that a machine has written by a snapshot')
    .argument(...machineArgument)
    .argument('<name>', 'the name of the snapshot')
    .addOption(stateOption)
    .addOption(imageOption)
    .option(...jsonOption)
    .action((machine, name, flags) =>
      runCommand(flags, async ({ progress }) => {
        const warn = (message: string) => progress.warn(message)
        const { hasSnapshot, restoreSnapshot, snapshotOf } = await import('../roots/snapshots.ts')
        const layer = await chooseLayer(machine, flags)
        if (hasSnapshot(layer, name)) {
          const { mtimeMs } = statSync(snapshotOf(layer, name))
          await mustKeepOwnSystem(flags.state, layer, mtimeMs)
        }
        await restoreSnapshot(layer, name, warn)
        return done([layer], `restored the snapshot ${name} of ${machine}`)
      }),
    )
}

function verify() {
  return new Command('verify')
    .description('Check that the structure of layers is whole')
    .argument('[machine]', 'a hardware address, an IP address, or a name; default: all machines')
    .addOption(stateOption)
    .addOption(imageOption)
    .option(...jsonOption)
    .action((machine, flags) =>
      runCommand(flags, async () => {
        const { verifyStoredLayer } = await import('../roots/verify.ts')
        const chosen = await chooseLayers(machine, flags)
        const layers = []
        const lines: string[] = []
        let status = 0
        for (const layer of chosen) {
          const name = { machine: layer.machine, ...olderOf(layer) }
          const tell = (text: string) => lines.push([...Object.values(name), text].join('  '))
          try {
            const check = await verifyStoredLayer(layer)
            layers.push({ ...name, ...check })
            if (check.problems.length > 0) status = exitStatus.untrusted
            for (const text of check.problems.length > 0 ? check.problems : ['whole']) tell(text)
          } catch (error) {
            // An error in one layer does not stop the check of the others.
            if (!(error instanceof NetimageError) || chosen.length === 1) throw error
            layers.push({ ...name, error: asData(error) })
            if (status === 0) status = exitStatus.failed
            tell(`not checked: ${error.message}`)
          }
        }
        return {
          text: lines.join('\n') || 'no layers yet',
          json: { layers },
          exitStatus: status,
        }
      }),
    )
}

interface Described {
  machine: string
  /** The first digits of the id of the image that the layer was last bound to. */
  image: string
  /** See `StoredLayer`. */
  older?: string
  directory: string
  inUse: boolean
  bytes: number
  files: number
  record?: LayerRecord
}

interface Unreadable {
  machine: string
  older?: string
  directory: string
  problem: string
}

async function describe(layer: StoredLayer): Promise<Described> {
  const { isInUse, measureLayer } = await import('../roots/store.ts')
  const { readRecord } = await import('../roots/record.ts')
  const { machine, directory } = layer
  const record = readRecord(directory)
  const image = record ? shortId(record.image.id) : (layer.older ?? '?')
  const known = { machine, image, ...olderOf(layer), directory, inUse: isInUse(layer) }
  return { ...known, ...measureLayer(layer), ...(record && { record }) }
}

/** One layer that cannot be read must not hide the others. */
async function describeIfPossible(layer: StoredLayer): Promise<Described | Unreadable> {
  try {
    return await describe(layer)
  } catch (error) {
    if (!(error instanceof NetimageError)) throw error
    const { machine, directory } = layer
    return { machine, ...olderOf(layer), directory, problem: error.message }
  }
}

/** `dc:a6:32:01:02:03  00ff00ff00ff00ff  pi  12.4 MiB in 210 files  2026-11-23 08:15:00` */
function inLine(described: Described | Unreadable): string {
  const { machine, older } = described
  if ('problem' in described) return [machine, older ?? '', described.problem].join('  ')
  const { image, inUse, bytes, files, record } = described
  const size = `${formatBytes(bytes)} in ${plural(files, 'file')}`
  const parts = [machine, image, record?.image.name ?? '?', size]
  if (record) parts.push(formatTime(record.lastUsed))
  if (older !== undefined) parts.push('of an earlier version')
  if (inUse) parts.push('in use')
  return parts.join('  ')
}

function done(layers: readonly StoredLayer[], text: string): Outcome {
  return {
    text,
    json: { layers: layers.map((layer) => ({ machine: layer.machine, ...olderOf(layer) })) },
  }
}

function olderOf({ older }: StoredLayer): { older?: string } {
  return older === undefined ? {} : { older }
}

/**
 * Measures the memory and the time for the roots of many machines in one process, as `serve` opens
 * them: 20 generations of 100,000 files that share most store paths, and 200 machines.
 *
 *     node --expose-gc bench/roots-memory.ts [machines] [directory on a tmpfs]
 */
import { hash } from 'node:crypto'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

import { removeTree } from '../src/remove-tree.ts'
import type { FileSystem, NodeId } from '../src/protocols/nfs/file-system.ts'
import { createImageIndexes } from '../src/roots/image-index.ts'
import type { PlacedStorePath, RootImage } from '../src/roots/root-image.ts'
import type { MachineLayer } from '../src/roots/machine-layer.ts'
import { beginTable, measured, mebibytes } from './report.ts'
import { openMachineLayerNow } from '../test/roots/support/open-layer.ts'

const [count = '200', directory = '/dev/shm/netimage-bench-roots'] = process.argv.slice(2)
const work = resolve(directory)
const generations = 20
const keptGenerations = 2
/** 950 store paths of all generations, and 50 of each: 1,000 store paths of 100 files each. */
const [shared, own, filesOfPath] = [950, 50, 100]

function makePath(name: string): PlacedStorePath {
  const digest = hash('sha256', name)
  const at = join(work, 'store', digest)
  mkdirSync(join(at, 'share'), { recursive: true })
  for (let file = 1; file < filesOfPath; file++)
    symlinkSync(name, join(at, 'share', `file-${file}`))
  return { name: `${digest.slice(0, 32)}-${name}`, narHash: `sha256:${digest}`, at }
}

function makePaths(name: string, paths: number): PlacedStorePath[] {
  return Array.from({ length: paths }, (_, index) => makePath(`${name}-${index}`))
}

function makeImage(index: number, common: readonly PlacedStorePath[]): RootImage {
  const outside = join(work, 'outside', String(index))
  mkdirSync(join(outside, 'nix/store'), { recursive: true })
  writeFileSync(join(outside, 'generation'), String(index))
  const storePaths = [...common, ...makePaths(`generation-${index}`, own)]
  return { id: hash('sha256', outside), outside, storePaths }
}

function walk(fileSystem: FileSystem, directory: NodeId): number {
  let found = 0
  for (const { node } of fileSystem.list(directory, 0)) {
    found++
    if (fileSystem.attributes(node).kind === 'directory') found += walk(fileSystem, node)
  }
  return found
}

removeTree(work)
await measured(measureAll)
removeTree(work)

async function measureAll(): Promise<void> {
  const printRow = beginTable('', ['time', 'held', 'resident'])

  /** Collects garbage first: what is left is held. */
  function report(what: string, started: number): void {
    const seconds = ((performance.now() - started) / 1000).toFixed(2)
    globalThis.gc?.()
    const { rss, heapUsed, external } = process.memoryUsage()
    printRow(what, [`${seconds} s`, mebibytes(heapUsed + external), mebibytes(rss)])
  }

  const common = makePaths('common', shared)
  const images = Array.from({ length: generations }, (_, index) => makeImage(index, common))
  report('nothing is open', performance.now())

  const indexes = createImageIndexes()
  let started = performance.now()
  const layers: MachineLayer[] = []
  const describe = ({ id, outside }: RootImage) => ({
    ...{ id, directory: outside, name: 'generation', toplevel: outside },
  })
  for (let machine = 0; machine < Number(count); machine++) {
    const of = (before: number) => images[(machine + generations - before) % generations]
    const [bound, ...kept] = Array.from({ length: 1 + keptGenerations }, (_, before) => of(before))
    const others = kept.filter((image) => image !== undefined)
    if (!bound) throw new Error('There are no images.')
    layers.push(
      openMachineLayerNow({
        ...{ state: join(work, 'state'), machine: `10.0.0.${machine + 1}`, boot: '1' },
        ...{ image: describe(bound), keptImages: others.map(describe) },
        index: indexes.open(bound, others),
      }),
    )
  }
  report(`${layers.length} machines have their roots`, started)

  started = performance.now()
  for (const { fileSystem } of layers) {
    for (const { node } of fileSystem.list(fileSystem.root, 0)) fileSystem.attributes(node)
    const store = ['nix', 'store'].reduce<NodeId | undefined>(
      (node, name) => (node === undefined ? undefined : fileSystem.lookup(node, Buffer.from(name))),
      fileSystem.root,
    )
    if (store !== undefined) Array.from(fileSystem.list(store, 0))
  }
  report('each has listed its store', started)

  started = performance.now()
  let nodes = 0
  for (const { fileSystem } of layers.slice(0, generations))
    nodes += walk(fileSystem, fileSystem.root)
  report(`${generations} have seen ${nodes} files`, started)

  started = performance.now()
  await Promise.all(layers.map((layer) => layer.close()))
  report('all are closed', started)
}

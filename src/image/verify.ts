/** Verifies an image: compares its store paths and its other files with the manifest. */
import { readdirSync, readFileSync } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { join, resolve } from 'node:path'

import { fileSystemError, messageOf, NetimageError } from '../errors.ts'
import type { PathInfo } from '../nix/path-info.ts'
import { formatRegistration } from '../nix/registration.ts'
import { baseNameOf } from '../nix/store-path.ts'
import { allOrNone, watchBytes } from '../pool/fill.ts'
import { startWorkers } from '../pool/workers.ts'
import { plural, silentProgress, type Progress } from '../progress.ts'
import { findOtherFiles, imageLayout, type ImageLayout } from './layout.ts'
import { readImage, type Manifest } from './manifest.ts'
import { hashFile, listTree, type TreeFile } from '../tree-files.ts'

export interface Finding {
  /** Relative to the image. */
  path: string
  problem: string
}

export interface Verification {
  image: string
  /** Empty if the image is whole. */
  findings: Finding[]
  /** The number of store paths that were hashed. */
  storePaths: number
  /** The number of other files that were checked. */
  files: number
}

export interface VerifyRequest {
  image: string
  signal?: AbortSignal
  progress?: Progress
}

export async function verifyImage(request: VerifyRequest): Promise<Verification> {
  const image = resolve(request.image)
  const progress = request.progress ?? silentProgress
  const signal = request.signal ?? new AbortController().signal
  const { manifest, options, closure } = await readImage(image)
  const layout = imageLayout(image, options.rootDirectoryName)
  const findings: Finding[] = []
  const found = (path: string, problem: string) =>
    findings.push({ path: path.slice(image.length + 1), problem })

  let storePaths = 0
  if (manifest.root.format === 'tar') await verifyTar(manifest, layout, found)
  else {
    await verifyStore(closure, layout, signal, progress, found)
    verifyRegistration(closure, layout, found)
    const stored = new Set(closure.map(({ path }) => path.slice(1)))
    await verifyFiles(layout.root, manifest.root.files, (path) => isInStore(path, stored), found)
    storePaths = closure.length
  }
  await verifyFiles(layout.boot, manifest.boot.files, () => false, found)
  verifyNoOtherFiles(layout, manifest.root.format, found)
  const files = manifest.root.files.length + manifest.boot.files.length
  return { image, findings, storePaths, files }
}

type Found = (path: string, problem: string) => void

/** Other paths in the store are findings by their names, so the files below them are not listed. */
function isInStore(path: string, stored: ReadonlySet<string>): boolean {
  return stored.has(path) || path.startsWith('nix/store/')
}

async function verifyStore(
  closure: readonly PathInfo[],
  layout: ImageLayout,
  signal: AbortSignal,
  progress: Progress,
  found: Found,
): Promise<void> {
  const expected = new Map(closure.map((info) => [baseNameOf(info.path), info]))
  let present: Set<string>
  try {
    present = new Set(readdirSync(layout.store))
  } catch (error) {
    found(layout.store, messageOf(error))
    return
  }
  for (const name of present) {
    if (!expected.has(name)) found(join(layout.store, name), 'it is not in the manifest')
  }
  const bytes = closure.reduce((sum, info) => sum + info.narSize, 0)
  const task = progress.begin('verifying', { paths: closure.length, bytes })
  const counts = { paths: 0 }
  const workers = startWorkers(signal)
  try {
    await watchBytes(workers, task, counts, () =>
      allOrNone([...expected], expected.size, async ([name, { narHash, narSize }]) => {
        signal.throwIfAborted()
        const tree = join(layout.store, name)
        if (!present.has(name)) found(tree, 'it is missing')
        else {
          const problem = await workers.run({ kind: 'check', tree, narHash, narSize }).then(
            (whole) => (whole ? undefined : 'its NAR hash differs from the manifest'),
            (error: unknown) => messageOf(error),
          )
          if (problem !== undefined) found(tree, problem)
        }
        counts.paths++
      }),
    )
  } finally {
    await workers.close()
  }
  if (signal.aborted) throw new NetimageError('interrupted', 'interrupted')
  task.end(`verified ${plural(closure.length, 'store path')}`)
}

function verifyNoOtherFiles(
  layout: ImageLayout,
  format: Manifest['root']['format'],
  found: Found,
): void {
  try {
    for (const path of findOtherFiles(layout, format)) {
      found(join(layout.image, path), 'it is not part of an image')
    }
  } catch (error) {
    found(layout.image, messageOf(error))
  }
}

function verifyRegistration(closure: readonly PathInfo[], layout: ImageLayout, found: Found): void {
  try {
    const text = readFileSync(layout.registration, 'utf8')
    if (text !== formatRegistration(closure)) {
      found(layout.registration, 'it does not register the closure of the manifest')
    }
  } catch (error) {
    found(layout.registration, messageOf(error))
  }
}

async function verifyFiles(
  tree: string,
  expected: readonly TreeFile[],
  skip: (path: string) => boolean,
  found: Found,
): Promise<void> {
  let files: TreeFile[]
  try {
    const mode = (await lstat(tree)).mode & 0o777
    // An image in the Nix store is read-only.
    if ((mode | 0o200) !== 0o755) found(tree, `its mode is ${mode.toString(8)}, but must be 755`)
    files = await listTree(tree, skip)
  } catch (error) {
    found(tree, messageOf(error))
    return
  }
  for (const { path, problem } of differences(expected, files)) found(join(tree, path), problem)
}

/** @returns each file that is not as expected, by its path in the tree */
export function* differences(
  expected: readonly TreeFile[],
  files: readonly TreeFile[],
): Generator<Finding> {
  const actual = new Map(files.map((file) => [file.path, file]))
  for (const file of expected) {
    const problem = difference(file, actual.get(file.path))
    if (problem !== undefined) yield { path: file.path, problem }
    actual.delete(file.path)
  }
  for (const path of actual.keys()) yield { path, problem: 'it is not in the manifest' }
}

function difference(expected: TreeFile, actual: TreeFile | undefined): string | undefined {
  if (!actual) return 'it is missing'
  const values = new Map(Object.entries(actual))
  for (const [name, value] of Object.entries(expected)) {
    if (values.get(name) === value) continue
    return `its ${name} is ${values.get(name) ?? 'none'}, but ${value} in the manifest`
  }
  return undefined
}

async function verifyTar(manifest: Manifest, layout: ImageLayout, found: Found): Promise<void> {
  const { tar } = manifest.root
  if (!tar) {
    found(layout.manifest, 'it does not describe the archive')
    return
  }
  try {
    const { size } = await lstat(layout.rootTar)
    if (size !== tar.size) {
      found(layout.rootTar, `its size is ${size}, but ${tar.size} in the manifest`)
    } else if ((await hashFile(layout.rootTar)) !== tar.sha256) {
      found(layout.rootTar, 'its hash differs from the manifest')
    }
  } catch (error) {
    found(layout.rootTar, messageOf(fileSystemError('could not read the archive', error)))
  }
}

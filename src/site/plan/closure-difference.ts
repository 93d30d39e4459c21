/** What a closure has and another one has not, by package. */
import type { StorePath } from '../../nix/store-path.ts'
import { packageOf } from './package-name.ts'

/** A store path of a closure. Its size is that of its NAR. */
export interface ClosureItem {
  path: StorePath
  narSize: number
}

export interface PackageDifference {
  name: string
  /** `rebuilt`: the versions are the same, and the store paths are others. */
  kind: 'added' | 'removed' | 'version' | 'rebuilt'
  /** All its versions in the closure, sorted. A package without a version has the version ''. */
  before: readonly string[]
  after: readonly string[]
  /** By how much all its store paths together are larger. */
  bytes: number
}

export interface ClosureDifference {
  /** By name. */
  packages: readonly PackageDifference[]
  /** The store paths that only the one or the other closure has. */
  added: { paths: number; bytes: number }
  removed: { paths: number; bytes: number }
}

export function closureDifference(
  before: readonly ClosureItem[],
  after: readonly ClosureItem[],
): ClosureDifference {
  const [had, has] = [byPackage(before), byPackage(after)]
  const names = [...new Set([...had.keys(), ...has.keys()])].toSorted()
  return {
    packages: names.flatMap((name) => compare(name, had.get(name), has.get(name)) ?? []),
    added: without(after, before),
    removed: without(before, after),
  }
}

interface Package {
  versions: readonly string[]
  paths: ReadonlySet<StorePath>
  bytes: number
}

const nothing: Package = { versions: [], paths: new Set(), bytes: 0 }

function byPackage(closure: readonly ClosureItem[]): Map<string, Package> {
  const grouped = Map.groupBy(closure, ({ path }) => packageOf(path).name)
  return new Map(
    [...grouped].map(([name, items]) => {
      const versions = [...new Set(items.map(({ path }) => packageOf(path).version))].toSorted()
      const paths = new Set(items.map(({ path }) => path))
      return [name, { versions, paths, bytes: bytesOf(items) }]
    }),
  )
}

function compare(
  name: string,
  had: Package = nothing,
  has: Package = nothing,
): PackageDifference | undefined {
  if (had.paths.size === has.paths.size && [...had.paths].every((path) => has.paths.has(path)))
    return undefined
  const isSame = had.versions.join(' ') === has.versions.join(' ')
  const changed = isSame ? 'rebuilt' : 'version'
  const kind = had === nothing ? 'added' : has === nothing ? 'removed' : changed
  const [before, after] = [had.versions, has.versions]
  return { name, kind, before, after, bytes: has.bytes - had.bytes }
}

function without(closure: readonly ClosureItem[], other: readonly ClosureItem[]) {
  const paths = new Set(other.map(({ path }) => path))
  const items = closure.filter(({ path }) => !paths.has(path))
  return { paths: items.length, bytes: bytesOf(items) }
}

function bytesOf(items: readonly ClosureItem[]): number {
  return items.reduce((sum, { narSize }) => sum + narSize, 0)
}

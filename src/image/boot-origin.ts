/**
 * Where the files of a boot tree come from. The manifest records this, so that the boot tree of
 * another system can be made for the same machines.
 */
import { lstatSync, readdirSync } from 'node:fs'
import * as v from 'valibot'

import type { BootFile } from '../boot/boot-files.ts'
import type { BootSettings } from '../boot/request.ts'
import { bootWays, type BootWay } from '../boot/ways.ts'
import { joinBytes } from '../byte-paths.ts'
import { escapeBytes } from '../tree-files.ts'

export const bootOriginSchema = v.object({
  ways: v.array(v.picklist(bootWays)),
  deviceTree: v.optional(v.string()),
  configTxt: v.optional(v.string()),
  machines: v.optional(v.array(v.string())),
  /** Whether the programs for UEFI are signed. */
  signed: v.boolean(),
  /** Paths of files and directories that come from directories that a person named. */
  fromSettings: v.array(v.string()),
  /** Paths of files that commands made or changed. */
  fromCommands: v.array(v.string()),
})

/** Paths are relative to the boot tree, and escaped by `escapeBytes`. */
export type BootOrigin = v.InferOutput<typeof bootOriginSchema>

export function bootOrigin(
  ways: readonly BootWay[],
  settings: BootSettings,
  files: readonly BootFile[],
): BootOrigin {
  const { deviceTree, configTxt, machines, signKey } = settings
  return {
    ways: [...ways],
    ...(deviceTree !== undefined && { deviceTree }),
    ...(configTxt !== undefined && { configTxt }),
    ...(machines !== undefined && { machines: [...machines] }),
    signed: signKey !== undefined,
    fromSettings: files
      .filter(({ content }) => content.kind === 'copy' && content.storePath === undefined)
      .map(({ path }) => path),
    fromCommands: [],
  }
}

/** What changes if a file is written or replaced, by the path of the file. */
export type Stamps = ReadonlyMap<string, string>

export function stampFiles(tree: string): Stamps {
  const stamps = new Map<string, string>()
  function visit(directory: Buffer, prefix: Buffer): void {
    for (const name of readdirSync(directory, { encoding: 'buffer' })) {
      const file = joinBytes(directory, name)
      const path = prefix.length > 0 ? joinBytes(prefix, name) : name
      const stat = lstatSync(file, { bigint: true })
      if (stat.isDirectory()) visit(file, path)
      else stamps.set(escapeBytes(path), [stat.ino, stat.size, stat.mtimeNs].join())
    }
  }
  visit(Buffer.from(tree), Buffer.alloc(0))
  return stamps
}

/** The paths of files that are new or changed since `before`, sorted. */
export function changedFiles(tree: string, before: Stamps): string[] {
  return [...stampFiles(tree)]
    .filter(([path, stamp]) => before.get(path) !== stamp)
    .map(([path]) => path)
    .sort()
}

/**
 * The manifest describes an image (`nix-support/net-image.json`). Verification and servers know
 * the image only from this file.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { publicPathsOf } from '../check/public-paths.ts'
import { closureInfos, type Closure } from '../nix/closure.ts'
import { formatHash, parseHash } from '../nix/hash.ts'
import { sortedReferences, type PathInfo } from '../nix/path-info.ts'
import { toStorePath, type StorePath } from '../nix/store-path.ts'
import { isContentAddressed } from '../nix/trust.ts'
import type { System } from '../nixos/system.ts'
import { bootOriginSchema } from './boot-origin.ts'
import { manifestName } from './layout.ts'
import { settledOptionsSchema, type SettledOptions } from './options.ts'
import { treeFileSchema } from '../tree-files.ts'

export const manifestVersion = 1

const optionalText = v.optional(v.string())
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

const entrySchema = v.object({
  specialisation: optionalText,
  label: v.string(),
  kernel: v.string(),
  initrd: optionalText,
  init: v.string(),
  kernelParams: v.array(v.string()),
  dtbs: optionalText,
})

/** A system, as documents of netimage record it. */
export const systemSchema = v.object({
  toplevel: v.string(),
  label: v.string(),
  platform: v.string(),
  entries: v.array(entrySchema),
  fileSystems: v.array(
    v.object({
      device: v.string(),
      mountPoint: v.string(),
      type: v.string(),
      options: v.array(v.string()),
    }),
  ),
})

const schema = v.object({
  version: v.literal(manifestVersion),
  system: systemSchema,
  options: settledOptionsSchema,
  /** Sorted by path. */
  closure: v.array(
    v.object({
      path: v.string(),
      narHash: v.string(),
      narSize: v.pipe(size, v.minValue(1)),
      references: v.array(v.string()),
      ca: optionalText,
      /** Whether the public cache has signed the path. Older manifests do not have this field. */
      public: v.optional(v.boolean(), false),
    }),
  ),
  root: v.object({
    format: v.picklist(['directory', 'tar']),
    /** The owner of every file of the root tree on the server. The owner here may differ. */
    owner: v.object({ uid: v.literal(0), gid: v.literal(0) }),
    /** All files except those of the store paths. */
    files: v.array(treeFileSchema),
    tar: v.optional(v.object({ size, sha256: v.string() })),
  }),
  boot: v.object({
    files: v.array(treeFileSchema),
    /** Older manifests do not have this field. */
    made: v.optional(bootOriginSchema),
  }),
})

export type Manifest = v.InferOutput<typeof schema>

/** The same image has the same bytes: the manifest has no times and no names of machines. */
export function formatManifest(manifest: Manifest): string {
  return JSON.stringify(manifest, undefined, 2) + '\n'
}

export function manifestClosure(closure: Closure): Manifest['closure'] {
  const publicPaths = publicPathsOf(closureInfos(closure))
  return closureInfos(closure).map((info) => ({
    path: info.path,
    narHash: formatHash(info.narHash),
    narSize: info.narSize,
    references: [...info.references],
    // Signatures do not cover `ca`, so take it only if it can be recomputed.
    ...(info.ca !== undefined && isContentAddressed(info) && { ca: info.ca }),
    public: publicPaths.has(info.path),
  }))
}

export interface ReadImage {
  manifest: Manifest
  system: System
  options: SettledOptions
  closure: PathInfo[]
  /** The paths of the closure that the public cache had signed when the image was built. */
  publicPaths: ReadonlySet<StorePath>
}

/** @param shown the image's name in errors, if `image` is another path to it */
export async function readImage(image: string, shown = image): Promise<ReadImage> {
  const file = join(image, manifestName)
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== 'ENOENT' && errno !== 'ENOTDIR') {
      throw fileSystemError(`could not read the manifest of ${shown}`, error, {
        details: { file: join(shown, manifestName) },
      })
    }
    throw notAnImage(shown)
  }
  return parseManifest(text, join(shown, manifestName))
}

export function notAnImage(image: string): NetimageError {
  return new NetimageError(
    'not-an-image',
    `${image} is not a net image: it has no ${manifestName}`,
    { details: { file: image }, hint: 'Name a directory that `netimage build` made.' },
  )
}

export function parseManifest(text: string, source: string): ReadImage {
  const broken = (why: string, field?: string) =>
    new NetimageError('image-damaged', `the manifest ${source} is broken: ${why}`, {
      details: { file: source, ...(field !== undefined && { field }) },
      hint: 'Build the image again.',
    })
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw broken('it is not JSON')
  }
  const result = v.safeParse(schema, document)
  if (!result.success) {
    const [issue] = result.issues
    const field = v.getDotPath(issue) ?? undefined
    throw broken(`${field ?? 'the whole'}: ${issue.message}`, field)
  }
  const manifest = result.output
  const closure = manifest.closure.map((entry, index) => {
    const path = toStorePath(entry.path)
    const narHash = parseHash(entry.narHash)
    const references = entry.references.map(toStorePath).filter((path) => path !== undefined)
    if (!path || narHash?.algorithm !== 'sha256')
      throw broken(`closure: ${entry.path}`, `closure.${index}`)
    if (references.length !== entry.references.length) {
      throw broken(`references of ${path}`, `closure.${index}.references`)
    }
    return {
      path,
      narHash,
      narSize: entry.narSize,
      references: sortedReferences(references),
      signatures: [],
      ...(entry.ca !== undefined && { ca: entry.ca }),
    }
  })
  const toplevel = toStorePath(manifest.system.toplevel)
  if (!toplevel) throw broken(`the system ${manifest.system.toplevel}`, 'system.toplevel')
  return {
    manifest,
    system: { ...manifest.system, toplevel },
    options: manifest.options,
    closure,
    publicPaths: new Set(
      closure.filter((_, index) => manifest.closure[index]?.public).map(({ path }) => path),
    ),
  }
}

// Closures that real Nix builds for tests. closures.nix defines the shapes of the paths.

import { createHash } from 'node:crypto'
import { readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { addBuilderShell, findStaticBusybox } from './real-nix.ts'
import type { NixWorld } from './real-nix.ts'

export type ShapesClosure = {
  /** This path refers to every shape, so its closure has all paths. */
  everything: string
  /** The store path of each shape, by its name in closures.nix. */
  shapes: Record<string, string>
  /** Every store path of the closure, sorted. */
  paths: string[]
}

const expressionFile = join(import.meta.dirname, 'closures.nix')
const noiseSize = 2_000_003

const rewritesSchema = v.object({ rewrites: v.record(v.string(), v.string()) })

/** Build store paths of every shape that Nix can make. They are the same in every world. */
export async function buildShapesClosure(world: NixWorld): Promise<ShapesClosure> {
  const strings = {
    shell: await addBuilderShell(world, await findStaticBusybox()),
    noise: await addNoise(world),
  }
  const selfReference = await buildOne(world, 'selfReference', strings)
  const selfReferenceRewritten = await makeContentAddressed(world, selfReference)
  const everything = await buildOne(world, 'everything', { ...strings, selfReferenceRewritten })

  const shapes: Record<string, string> = {}
  for (const name of await readdir(world.realPath(everything))) {
    shapes[name] = await readlink(join(world.realPath(everything), name))
  }
  return { everything, shapes, paths: await world.closure([everything]) }
}

async function buildOne(world: NixWorld, attribute: string, strings: Record<string, string>) {
  const [path] = await world.build({ file: expressionFile }, { attribute, strings })
  if (path === undefined) throw new Error(`Nix built "${attribute}" but named no store path.`)
  return path
}

/** Bytes that do not compress. They are the same in every run. */
async function addNoise(world: NixWorld): Promise<string> {
  const file = join(world.storeRoot, 'noise')
  await writeFile(file, createHash('shake256', { outputLength: noiseSize }).digest())
  try {
    return await world.addToStore(file, { flat: true })
  } finally {
    await rm(file)
  }
}

async function makeContentAddressed(world: NixWorld, path: string): Promise<string> {
  const answer = await world.nix(['store', 'make-content-addressed', '--json', path])
  const rewritten = v.parse(rewritesSchema, JSON.parse(answer)).rewrites[path]
  if (rewritten === undefined) throw new Error(`Nix did not make "${path}" content-addressed.`)
  return rewritten
}

// Systems that real Nix builds for tests of whole builds.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { buildShapesClosure, type ShapesClosure } from './closures.ts'
import { addBuilderShell, createNixWorld, findStaticBusybox, writeTree } from './real-nix.ts'
import type { NixKey, NixWorld } from './real-nix.ts'

const expressionFile = join(import.meta.dirname, 'system.nix')

export type TestSystem = {
  world: NixWorld
  toplevel: string
  /** Every store path of its closure, sorted. */
  paths: string[]
  key: NixKey
}

/** A system with store paths of every shape in its closure. */
export async function buildSystemOfShapes(
  directory: string,
): Promise<TestSystem & { shapes: ShapesClosure['shapes'] }> {
  const world = await createNixWorld(directory)
  const { everything, shapes } = await buildShapesClosure(world)
  return { ...(await buildSystem(world, everything)), shapes }
}

/** A system of a few small paths. */
export async function buildSmallSystem(directory: string): Promise<TestSystem> {
  const world = await createNixWorld(directory)
  const source = join(directory, 'content')
  mkdirSync(source, { recursive: true })
  await writeTree(source, { 'share/text': 'small\n', 'share/more/text': 'smaller\n' })
  return await buildSystem(world, await world.addToStore(source, { name: 'content' }))
}

/** @param label makes different systems from the same content */
export async function buildSystem(
  world: NixWorld,
  content: string,
  label?: string,
): Promise<TestSystem> {
  const shell = await addBuilderShell(world, await findStaticBusybox())
  const strings = { shell, content, ...(label !== undefined && { label }) }
  const [toplevel] = await world.build({ file: expressionFile }, { strings })
  if (toplevel === undefined) throw new Error('Nix built the system but named no store path.')
  const key = await world.generateKey('test-1')
  return { world, toplevel, paths: await world.closure([toplevel]), key }
}

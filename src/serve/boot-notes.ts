/** Reads the notes of the module that a boot is good, or is not: see nix/bless.nix. */
import * as v from 'valibot'

import type { FileSystem } from '../protocols/nfs/file-system.ts'
import { readSmallFile } from '../roots/find-node.ts'
import type { Sign } from '../site/life/attempts.ts'

/**
 * The directory of the notes. It is below /nix, because /var may be on a disk of the machine, or in
 * its memory: the server would not see the notes there.
 */
export const notesDirectory = ['nix', 'var', 'netimage'] as const
export const goodNote = 'blessed'
export const failedNote = 'failed'

/** The names on the way from the root to a note. */
export function noteAt(note: string): readonly [...directories: string[], note: string] {
  return [...notesDirectory, note]
}

/** The machine writes what it likes. A note has some hundred bytes. */
const maxBytes = 4096
const maxUnits = 5

const bootSchema = v.object({
  version: v.literal(1),
  bootId: v.pipe(v.string(), v.uuid()),
  toplevel: v.string(),
})
const failedSchema = v.object({ version: v.literal(1), units: v.array(v.string()) })

/** @returns undefined if there is no valid note */
export function readGoodNote(fileSystem: FileSystem): Sign | undefined {
  const note = v.safeParse(noteOf(bootSchema), readNote(fileSystem, goodNote))
  if (!note.success) return undefined
  const { bootId, toplevel } = note.output
  return { kind: 'bless', bootId, toplevel }
}

/** @returns undefined if there is no valid note */
export function readFailedNote(fileSystem: FileSystem): Sign | undefined {
  const note = v.safeParse(noteOf(failedSchema), readNote(fileSystem, failedNote))
  if (!note.success) return undefined
  const { units } = note.output
  const named = units.length === 0 ? 'no unit says why' : units.slice(0, maxUnits).join(', ')
  const more = units.length > maxUnits ? ` and ${units.length - maxUnits} more` : ''
  return { kind: 'trouble', trouble: `boot-complete.target was not reached: ${named}${more}` }
}

function noteOf<Schema extends v.GenericSchema>(schema: Schema) {
  return v.pipe(v.string(), v.parseJson(), schema)
}

function readNote(fileSystem: FileSystem, note: string): string | undefined {
  return readSmallFile(fileSystem, noteAt(note), maxBytes)
}

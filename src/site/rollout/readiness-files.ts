/**
 * The files by which a machine asks whether it may restart itself. They lie in the root of the machine, and
 * nix/restart.nix writes and reads them.
 *
 * What the machine says is JSON. The answer is lines of a word and a text, because a shell script reads it.
 */
import * as v from 'valibot'

/** The directory of both files, as names from the root. See `publishDirectory` for why it is there. */
export const restartDirectory = ['nix', 'var', 'netimage', 'restart'] as const
export const readyName = 'ready'
export const restartAnswerName = 'answer'

export const maxReadyBytes = 4096

/** The names and the version are also in nix/restart.nix. */
const readySchema = v.object({
  version: v.literal(1),
  /** A random name, so that the machine can tell the answer from an earlier one. */
  id: v.pipe(v.string(), v.regex(/^[0-9a-zA-Z-]{1,64}$/)),
  /** Whether its time windows let it restart now. If not, it wants no answer. */
  ready: v.boolean(),
})

export type Ready = v.InferOutput<typeof readySchema>

/** @returns undefined if the text is nothing that the module writes */
export function parseReady(text: string): Ready | undefined {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), readySchema), text)
  return parsed.success ? parsed.output : undefined
}

/** The machine makes the file with this size, and the server overwrites all of it. */
export const restartAnswerBytes = 256

export function formatRestartAnswer(id: string, mayRestart: boolean): Buffer {
  const answer = Buffer.alloc(restartAnswerBytes, ' ')
  answer.write(`id ${id}\nstatus ${mayRestart ? 'restart' : 'wait'}\n`)
  return answer
}

/** Answers machines that ask whether they may restart themselves. A machine may ask as often as it likes. */
import { setTimeout as sleep } from 'node:timers/promises'

import { asNetimageError, type NetimageError } from '../errors.ts'
import type { FileSystem } from '../protocols/nfs/file-system.ts'
import type { Observation } from '../protocols/nfs/program.ts'
import { findNode, readSmallFile } from '../roots/find-node.ts'
import {
  formatRestartAnswer,
  maxReadyBytes,
  parseReady,
  readyName,
  restartAnswerName,
  restartDirectory,
} from '../site/rollout/readiness-files.ts'
import type { Site } from '../site/site.ts'

export interface AnswerReadinessSettings {
  site: Pick<Site, 'setReadiness' | 'letRestart'>
  machines: { rootOf(machine: string): { fileSystem: FileSystem } | undefined }
  onError: (error: NetimageError) => void
}

export interface AnswerReadiness {
  /** To be called for each operation of a machine in its root. */
  observe: (seen: Pick<Observation, 'machine' | 'procedure' | 'name'>) => void
  close: () => Promise<void>
}

/** Roll-outs go on every two seconds. The machine waits a little longer than this for its answer. */
const [looks, betweenMs] = [8, 1000]
const nameBytes = Buffer.from(readyName)

export function answerReadiness(settings: AnswerReadinessSettings): AnswerReadiness {
  const { site, machines, onError } = settings
  const ending = new AbortController()
  const { signal } = ending
  /** The machines that have their turn. What one says meanwhile it says again two minutes later. */
  const turns = new Map<string, Promise<void>>()

  async function turn(machine: string): Promise<void> {
    // The caller is in the middle of an operation on the root.
    await pause()
    const ready = readReady(machines.rootOf(machine)?.fileSystem)
    if (!ready || signal.aborted) return
    await site.setReadiness(machine, ready.ready, Date.now())
    if (!ready.ready) {
      await pause()
      return
    }
    let mayRestart = false
    for (let left = looks; left > 0 && !mayRestart && !signal.aborted; left--) {
      await pause()
      mayRestart = await site.letRestart(machine, Date.now())
    }
    if (signal.aborted && !mayRestart) return
    const fileSystem = machines.rootOf(machine)?.fileSystem
    if (fileSystem) write(fileSystem, formatRestartAnswer(ready.id, mayRestart))
  }

  async function pause(): Promise<void> {
    await sleep(betweenMs, undefined, { signal }).catch(() => {})
  }

  return {
    observe({ machine, procedure, name }) {
      if (procedure !== 'RENAME' || !name?.equals(nameBytes)) return
      if (signal.aborted || turns.has(machine)) return
      const work = turn(machine)
        .catch((error: unknown) => onError(asNetimageError(error)))
        .finally(() => turns.delete(machine))
      turns.set(machine, work)
    },
    async close() {
      ending.abort()
      await Promise.all(turns.values())
    },
  }
}

function readReady(fileSystem: FileSystem | undefined) {
  const text =
    fileSystem && readSmallFile(fileSystem, [...restartDirectory, readyName], maxReadyBytes)
  return text === undefined ? undefined : parseReady(text)
}

/** Does nothing if the machine has no file for the answer: then nobody waits for it. */
function write(fileSystem: FileSystem, bytes: Buffer): void {
  const file = findNode(fileSystem, [...restartDirectory, restartAnswerName])
  if (file === undefined || fileSystem.attributes(file).kind !== 'file') return
  fileSystem.write(file, 0, bytes)
}

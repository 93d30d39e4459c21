// A fleet that boots from `netimage serve`, by HTTP and NFS. Each machine has an address on the loopback
// interface.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { on, once } from 'node:events'
import { join } from 'node:path'
import * as v from 'valibot'
import { openSiteDatabase, type SiteDatabase } from '../../../src/site/database.ts'
import type { Restart } from '../../../src/site/rollout/rollout.ts'
import { generationOf, lastAttempt } from '../../../src/site/life/life.ts'
import { waitFor } from '../../support/waiting.ts'
import type { MarkedImage } from './fleet-images.ts'
import type { Answer, Asked } from './fleet-server.ts'
import type { Fleet } from './fleet-boot.ts'
import { endProcess, type FleetServer } from './fleet.ts'
import { freePort } from './free-port.ts'
import { createServedMachine, type ServedMachine } from './served-machine.ts'
import { restartToldSchema } from './restart-command.ts'
import type { Steering } from './served-fleet-program.ts'

const program = join(import.meta.dirname, 'served-fleet-program.ts')
/** The processes that the server starts get the same arguments for Node. */
const execArgv = ['--import', join(import.meta.dirname, 'steered-process.ts')]

export interface ServedFleet extends Fleet {
  start: () => FleetServer
  /** The restarts that were asked of machines. */
  restarts: Map<string, Restart>
  /** The root that a machine uses now. */
  mountedBy: (machine: string) => ReturnType<ServedMachine['mounted']>
}

/**
 * @param images for each update one whose system tells that it is up, and one that does not
 * @param workers how many processes serve the machines
 */
export async function createServedFleet(
  state: string,
  images: readonly MarkedImage[],
  workers: number,
): Promise<ServedFleet> {
  const [tftp, http, nfs] = [await freePort(), await freePort(), await freePort()]
  const ports = { tftp, http, nfs, portMapper: undefined }
  const machines = new Map<string, ServedMachine>()
  const restarts = new Map<string, Restart>()
  let isKilled = false

  function machineAt(address: string): ServedMachine {
    const known = machines.get(address) ?? createServedMachine(address, ports, () => isKilled)
    machines.set(address, known)
    return known
  }

  let database: SiteDatabase | undefined

  /** An attempt is in the database before the machine is answered. */
  function lastAttemptOf(machine: string) {
    database ??= openSiteDatabase(state)
    const life = database.read.lifeOf(machine)
    const attempt = lastAttempt(life) ?? assert.fail(`${machine} has no attempt`)
    const generation = generationOf(life, attempt.generation) ?? assert.fail()
    return { attempt: attempt.number, toplevel: generation.toplevel }
  }

  async function answer({ machine, action }: Asked['actions'][number]): Promise<Answer> {
    // Only for what is in its root. The mark tells which system is there.
    const toplevel = action === 'init' ? lastAttemptOf(machine).toplevel : ''
    const mark = await machineAt(machine).does(action, toplevel)
    const { attempt, toplevel: bound } = lastAttemptOf(machine)
    const image = images.find((each) =>
      mark === undefined ? each.toplevel === bound : each.mark === mark,
    )
    return { machine, attempt, image: image?.image ?? assert.fail(mark) }
  }

  return {
    restarts,
    mountedBy: (machine) => machineAt(machine).mounted(),
    machineOf: (index) => `127.0.1.${index + 1}`,
    usesDhcp: () => false,
    candidateOf: (_index, update, blesses) =>
      images.filter((image) => image.blesses === blesses)[update] ?? assert.fail(),
    start() {
      const child = fork(program, { execArgv, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
      const exited = once(child, 'exit').then(() => {
        isKilled = true
        return false
      })
      child.on('message', (told) => {
        if (!v.is(restartToldSchema, told)) return
        const [kind, machine] = told.restart
        restarts.set(machine, kind)
      })
      const loaded = tells('loaded')

      async function tells(what: 'loaded' | 'done'): Promise<void> {
        for await (const [told] of on(child, 'message')) if (told === what) return
      }

      /** @returns whether the server still runs */
      async function steer(steering: Steering): Promise<boolean> {
        await waitFor('the server is loaded', Promise.race([loaded, exited]))
        const done = tells('done').then(() => true)
        child.send(steering, () => {})
        return await waitFor('the server works', Promise.race([done, exited]))
      }

      return {
        async ask({ at, open, killAfter, actions }) {
          const steering: Steering = { at }
          if (killAfter !== undefined) steering.killAfter = killAfter
          if (open !== undefined) {
            isKilled = false
            steering.open = { state: open, ports, shards: workers }
          }
          if (!(await steer(steering))) return { answers: [], wasKilled: true }
          const settled = await Promise.allSettled(actions.map(answer))
          const answers = settled.flatMap((each) =>
            each.status === 'fulfilled' ? [each.value] : [],
          )
          // An answer is only lost if the server was killed.
          const wasKilled = !(await steer({ at }))
          const lost = settled.find((each) => each.status === 'rejected')
          if (lost && !wasKilled) throw lost.reason
          return { answers, wasKilled }
        },
        async end() {
          database?.close()
          database = undefined
          await endProcess(child)
        },
      }
    },
  }
}

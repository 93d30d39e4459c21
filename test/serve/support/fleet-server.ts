// A server without its protocols and images: the site, the gate, and the follower of boots. Its
// parent sets its clock, tells what machines do, and lets the server kill itself at any step.

import { killAfter } from '../../support/killed-by-steps.ts'
import assert from 'node:assert/strict'
import { mock } from 'node:test'
import type { Caller } from '../../../src/protocols/rpc/program.ts'
import type { ServeEvent } from '../../../src/protocols/event.ts'
import { attend } from '../../../src/serve/attend.ts'
import type { BootedSystem, Gate } from '../../../src/serve/gate.ts'
import { wireGate } from '../../../src/serve/wire-gate.ts'
import type { Sign } from '../../../src/site/life/attempts.ts'
import { openSite } from '../../../src/site/site.ts'
import { identitiesOf } from './identities.ts'
import { plainPartOf, plainRoot, plainSystem } from './plain-systems.ts'

/** What a machine does. All of it needs an answer. */
export type Action =
  | 'dhcp'
  | 'boot.ipxe'
  | 'kernel'
  | 'initrd'
  | 'mount'
  | 'init'
  | 'alive'
  | { bootId: string; toplevel: string }

export interface Asked {
  /** Milliseconds since 1970. */
  at: number
  /** After how many more steps the server is to be killed. */
  killAfter?: number
  /** The state directory, when the server starts. */
  open?: string
  actions: { machine: string; action: Action }[]
}

/** What a machine was answered: its attempt, and the image of the file or the root. */
export interface Answer {
  machine: string
  attempt: number
  image: string
}

export type Told = { answer: Answer } | 'done'

mock.timers.enable({ apis: ['Date'] })

function start(state: string) {
  const onError = (error: unknown) => {
    throw error
  }
  const site = openSite({ state, at: Date.now(), onTold: () => {}, onError })
  const identities = identitiesOf({}, Date.now)
  const { gate, follower } = wireGate({
    ...{ site, identities, onError, onBegin: () => {} },
    findGone: () => Promise.resolve(new Set()),
    systems: {
      open: (_machine, { generation }) => Promise.resolve(plainSystem(generation.image)),
      openImage: (id) => Promise.resolve(plainSystem(id)),
      hasStorePath: () => Promise.resolve(false),
      ...{ partOf: plainPartOf, isRoot: (path) => path === plainRoot },
      ...{ images: () => [], closeUnused: () => {}, close: () => {} },
    },
    defaults: { of: () => undefined },
    // As if the record of boots had lost everything when the server was killed.
    boots: [],
  })
  const onSign = (machine: string, sign: Sign) => {
    if (gate.hasAttempt(machine)) site.sign(machine, sign, Date.now())
  }
  const report = attend({
    ...{ follower, identities, onSign, onBoot: () => {}, onCome: () => {} },
    ...{ record: { add: () => {} }, see: () => {} },
  })
  const connections = new Map<string, Caller>()

  /** What a machine does before it has a root. */
  async function enter(event: ServeEvent, machine: string): Promise<BootedSystem | undefined> {
    let caller = connections.get(machine)
    if (event.kind !== 'nfs') {
      // Firmware has no connections.
      if (caller) identities.leaves(caller)
      connections.delete(machine)
    } else if (!caller) {
      caller = { address: machine, transport: 'tcp' }
      connections.set(machine, caller)
      identities.nameOf(caller)
    }
    const booted = await gate.enter(machine, event, caller)
    report(event)
    return event.kind === 'nfs' ? await whenOpen(gate, machine) : booted
  }

  async function act(machine: string, action: Action): Promise<BootedSystem | undefined> {
    const clue = { address: machine }
    switch (action) {
      case 'dhcp': {
        const discover = { kind: 'dhcp', step: 'discover', proxy: true, architecture: 7 } as const
        return await enter({ ...discover, ...clue }, machine)
      }
      case 'mount':
        return await enter({ kind: 'nfs', step: 'mount', path: plainRoot, ...clue }, machine)
      case 'boot.ipxe':
      case 'kernel':
      case 'initrd':
        return await enter(
          { kind: 'http', step: 'begin', file: action, bytes: 0, ...clue },
          machine,
        )
      case 'init':
      case 'alive':
      default: {
        const booted = await whenOpen(gate, machine)
        onSign(machine, { kind: 'alive' })
        if (action === 'init') report({ kind: 'root', step: 'init', ...clue })
        else if (action !== 'alive') {
          onSign(machine, { kind: 'bless', ...action })
          // The note is on the disk before this is answered, and later than the sign is written.
          await new Promise((resolve) => void setImmediate(resolve))
        }
        return booted
      }
    }
  }

  return {
    tick: () => site.tick(Date.now()),
    async answer(machine: string, action: Action): Promise<Answer> {
      const booted = await act(machine, action)
      assert.ok(booted?.attempt !== undefined, `${machine} boots nothing`)
      return { machine, attempt: booted.attempt, image: booted.system.image.id }
    },
  }
}

/** As the root of a machine opens: the machine asks again while its generation is being opened. */
async function whenOpen(gate: Gate, machine: string): Promise<BootedSystem | undefined> {
  let booted = gate.now(machine)
  while (booted === 'busy') {
    await new Promise((resolve) => void setImmediate(resolve))
    booted = gate.now(machine)
  }
  return booted
}

const tell = (told: Told) => process.send?.(told)
let server: ReturnType<typeof start> | undefined

async function work({ at, open, actions, ...asked }: Asked): Promise<void> {
  mock.timers.setTime(at)
  if (asked.killAfter !== undefined) killAfter(asked.killAfter)
  if (open !== undefined) server = start(open)
  const running = server
  assert.ok(running)
  running.tick()
  await Promise.all(
    actions.map(async ({ machine, action }) =>
      tell({ answer: await running.answer(machine, action) }),
    ),
  )
  // What is due at the end of this turn belongs to this round.
  await new Promise((resolve) => void setImmediate(resolve))
  tell('done')
}

process.on('message', (asked: Asked) => void work(asked))

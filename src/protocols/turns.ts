/**
 * Shares the turns of the event loop: a machine works only for some milliseconds in each turn, with all its
 * connections and transfers together. The rest of its work waits, and goes on in the next turns, each piece
 * after those that waited before it. So a machine does not keep the others waiting, and none of its connections
 * keeps another one waiting.
 */
import { performance } from 'node:perf_hooks'

/** A machine begins no further piece of work after this time in one turn. */
const turnMs = 3

/**
 * A piece of work, which should take less time than a turn.
 *
 * @param end when the time of the machine is used up, on the clock of `performance.now`
 * @returns whether it wants to be called again, in a later turn
 */
export type Work = (end: number) => boolean

interface Machine {
  /** Milliseconds. A machine that has worked for longer pays for it in the next turns. */
  left: number
  waiting: Work[]
  isWorking: boolean
}

/** Those that have worked in this turn, or wait. There is one event loop, so that all servers share it. */
const machines = new Map<string, Machine>()
let isNextTurnDue = false

/**
 * Does the work of a machine: now, if there is time left for the machine in this turn and nothing of it waits.
 *
 * @returns whether it is done already
 */
export function inTurn(name: string, work: Work): boolean {
  const machine = machines.get(name) ?? { left: turnMs, waiting: [], isWorking: false }
  machines.set(name, machine)
  awaitNextTurn()
  let isDone = false
  machine.waiting.push((end) => {
    isDone = true
    return work(end)
  })
  workOn(machine)
  return isDone
}

/** Begins something for a machine as soon as it is its turn. @returns what it returns */
export function beginInTurn<Result>(name: string, begin: () => Promise<Result>): Promise<Result> {
  return new Promise((resolve) => {
    inTurn(name, () => {
      resolve(begin())
      return false
    })
  })
}

function workOn(machine: Machine): void {
  // Work may give more work to the same machine.
  if (machine.isWorking) return
  machine.isWorking = true
  try {
    while (machine.left > 0) {
      const work = machine.waiting.shift()
      if (!work) break
      const begin = performance.now()
      try {
        if (work(begin + machine.left)) machine.waiting.push(work)
      } finally {
        machine.left -= performance.now() - begin
      }
    }
  } finally {
    machine.isWorking = false
  }
}

function awaitNextTurn(): void {
  if (isNextTurnDue) return
  isNextTurnDue = true
  setImmediate(beginTurn)
}

function beginTurn(): void {
  isNextTurnDue = false
  for (const [name, machine] of machines) {
    machine.left = Math.min(turnMs, machine.left + turnMs)
    if (machine.waiting.length === 0 && machine.left === turnMs) machines.delete(name)
  }
  if (machines.size > 0) awaitNextTurn()
  for (const machine of machines.values()) workOn(machine)
}

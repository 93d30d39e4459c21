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

/** Those that have worked or wait. There is one event loop, so that all servers share it. */
const machines = new Map<string, Machine>()
/** With more of them, those that have worked long ago are removed. */
const manyMachines = 256
let isNextTurnDue = false

/**
 * Does the work of a machine: now, if there is time left for the machine in this turn and nothing of it waits.
 *
 * @returns whether it has begun already
 */
export function inTurn(name: string, work: Work): boolean {
  const machine = machines.get(name) ?? addMachine(name)
  if (machine.isWorking || machine.waiting.length > 0 || machine.left <= 0) {
    machine.waiting.push(work)
    awaitNextTurn()
    return false
  }
  workOn(machine, work)
  return true
}

function addMachine(name: string): Machine {
  const machine = { left: turnMs, waiting: [], isWorking: false }
  machines.set(name, machine)
  if (machines.size > manyMachines) awaitNextTurn()
  return machine
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

/** Does one piece of work, and those that wait, as long as there is time left for the machine. */
function workOn(machine: Machine, first: Work): void {
  const end = performance.now() + machine.left
  // Work may give more work to the same machine.
  machine.isWorking = true
  try {
    let work: Work | undefined = first
    while (work) {
      if (work(end)) machine.waiting.push(work)
      if (machine.waiting.length === 0 || performance.now() >= end) break
      work = machine.waiting.shift()
    }
  } finally {
    machine.isWorking = false
    machine.left = end - performance.now()
    // Not after each piece: the turn costs about as much as it takes to send a block of a file.
    if (machine.waiting.length > 0 || machine.left < turnMs / 2) awaitNextTurn()
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
    else if (machine.left < turnMs / 2 || machine.waiting.length > 0) awaitNextTurn()
  }
  for (const machine of machines.values()) {
    const work = machine.left > 0 ? machine.waiting.shift() : undefined
    if (work) workOn(machine, work)
  }
}

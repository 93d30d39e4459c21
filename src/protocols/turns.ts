/**
 * Shares the turns of the event loop: a machine works only for some milliseconds in each turn, with all its
 * connections and transfers together. The rest of its work waits, and goes on in the next turns, each piece
 * after those that waited before it. So a machine does not keep the others waiting, and none of its connections
 * keeps another one waiting.
 *
 * Each call of a machine that boots would still wait for the whole share of one that always has work, and a boot has
 * thousands of calls, one after the other. So a machine that has worked for long works in the pauses of the others:
 * when none of them has worked for a moment, or it has waited for some milliseconds. Then its shares are short.
 */
import { performance } from 'node:perf_hooks'

/** A machine begins no further piece of work after this time in one turn. */
const turnMs = 3

/** A machine that has worked for so long, and more than `lightShare` of the time, has worked for long. Milliseconds. */
const longMs = 500
const lightShare = 0.1
/** The pause of the others in which it goes on, and how long it waits for that at most. Milliseconds. */
const pauseMs = 1
const mostWaitMs = 10
/** Its share in a turn if others have worked in the time `recentMs`. Milliseconds. */
const shortTurnMs = 0.5
const recentMs = 100

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
  /** Milliseconds of work above `lightShare` of the time, at the time `workedAt`. Not more than twice `longMs`. */
  worked: number
  workedAt: number
  waiting: Work[]
  isWorking: boolean
  /** How many have asked for its work to wait. */
  holds: number
}

/** Those that have worked or wait. There is one event loop, so that all servers share it. */
const machines = new Map<string, Machine>()
/** With more of them, those that have worked long ago are removed. */
const manyMachines = 256
let isNextTurnDue = false
let isLaterTurnDue = false
/** When a machine that has not worked for long has last worked. */
let othersWorkedAt = Number.NEGATIVE_INFINITY

/**
 * Does the work of a machine: now, if there is time left for the machine in this turn and nothing of it waits.
 *
 * @returns whether it has begun already
 */
export function inTurn(name: string, work: Work): boolean {
  const machine = machines.get(name) ?? addMachine(name)
  if (machine.isWorking || machine.waiting.length > 0 || !mayWork(machine)) {
    machine.waiting.push(work)
    awaitTurnOf(machine)
    return false
  }
  workOn(machine, work)
  return true
}

/** Lets all work of a machine wait until the promise is settled. Work that has begun is done. */
export function holdWork(name: string, until: Promise<unknown>): void {
  const machine = machines.get(name) ?? addMachine(name)
  machine.holds++
  const release = () => {
    machine.holds--
    awaitTurnOf(machine)
  }
  until.then(release, release)
}

function isHeld({ holds }: Machine): boolean {
  return holds > 0
}

function mayWork(machine: Machine): boolean {
  return machine.left > 0 && !isHeld(machine) && !waitsForPause(machine)
}

function waitsForPause(machine: Machine): boolean {
  if (machine.worked < longMs) return false
  const now = performance.now()
  return now - othersWorkedAt < pauseMs && now - machine.workedAt < mostWaitMs
}

function addMachine(name: string): Machine {
  const machine = {
    ...{ left: turnMs, worked: 0, workedAt: performance.now() },
    ...{ waiting: [], isWorking: false, holds: 0 },
  }
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
  const began = performance.now()
  const isShort = machine.worked >= longMs && began - othersWorkedAt < recentMs
  const end = began + (isShort ? Math.min(machine.left, shortTurnMs) : machine.left)
  // Work may give more work to the same machine.
  machine.isWorking = true
  try {
    let work: Work | undefined = first
    while (work) {
      if (work(end)) machine.waiting.push(work)
      if (machine.waiting.length === 0 || isHeld(machine) || performance.now() >= end) break
      work = machine.waiting.shift()
    }
  } finally {
    machine.isWorking = false
    countWork(machine, began)
    // Not after each piece: the turn costs about as much as it takes to send a block of a file.
    awaitTurnOf(machine)
  }
}

function countWork(machine: Machine, began: number): void {
  const now = performance.now()
  machine.left -= now - began
  const worked = workedUntil(machine, began) + now - began
  machine.worked = Math.min(2 * longMs, worked)
  machine.workedAt = now
  if (worked < longMs) othersWorkedAt = now
}

function workedUntil({ worked, workedAt }: Machine, now: number): number {
  return Math.max(0, worked - lightShare * (now - workedAt))
}

/** Asks for a next turn if the machine needs one. */
function awaitTurnOf(machine: Machine): void {
  const hasWork = machine.waiting.length > 0 && !isHeld(machine)
  if (hasWork && waitsForPause(machine)) awaitLaterTurn()
  else if (hasWork || machine.left < turnMs / 2) awaitNextTurn()
}

function awaitNextTurn(): void {
  if (isNextTurnDue) return
  isNextTurnDue = true
  setImmediate(beginTurn)
}

/** The event loop can wait for others meanwhile. */
function awaitLaterTurn(): void {
  if (isLaterTurnDue) return
  isLaterTurnDue = true
  setTimeout(() => {
    isLaterTurnDue = false
    awaitNextTurn()
  }, pauseMs)
}

function beginTurn(): void {
  isNextTurnDue = false
  const now = performance.now()
  for (const [name, machine] of machines) {
    machine.left = Math.min(turnMs, machine.left + turnMs)
    const isIdle = machine.waiting.length === 0 && !isHeld(machine)
    const isRested = machine.left === turnMs && workedUntil(machine, now) === 0
    if (isIdle && isRested) machines.delete(name)
    else awaitTurnOf(machine)
  }
  for (const machine of machines.values()) {
    const work = mayWork(machine) ? machine.waiting.shift() : undefined
    if (work) workOn(machine, work)
  }
}

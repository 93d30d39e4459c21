/** Keeps a shard from the machines of other shards. */
import type { NetimageError } from '../errors.ts'
import { askAgain } from './ask-again.ts'
import type { Gate } from './gate.ts'

/**
 * The gate for the machines that the shard owns. The address of a machine can get another name while a
 * connection or a transfer goes on. The shard must then not begin an attempt of the other machine.
 */
export function onlyOwn(gate: Gate, owns: (machine: string) => boolean): Gate {
  return {
    ...gate,
    async enter(machine, ...asked) {
      if (owns(machine)) return await gate.enter(machine, ...asked)
      throw otherMachine(machine)
    },
    now: (machine) => (owns(machine) ? gate.now(machine) : 'busy'),
    comes(boot, event) {
      if (owns(boot.machine)) gate.comes(boot, event)
    },
  }
}

export function otherMachine(machine: string): NetimageError {
  return askAgain(`the address of ${machine} belonged to another machine before`, machine)
}

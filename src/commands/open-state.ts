/** Opens the state directory for commands that change it. */
import { NetimageError } from '../errors.ts'
import type { Person } from '../site/log/entry.ts'
import { becomeOwner } from './become-owner.ts'
import { callingPerson } from './calling-person.ts'

export interface OpenedState {
  /** The state directory. */
  state: string
  /** Who runs the command: root is another user from here on. */
  person: Person
}

/** Makes the state directory if there is none. */
export async function openStateToChange(named: string | undefined): Promise<OpenedState> {
  const { openState, stateDirectory } = await import('../serve/state.ts')
  const state = stateDirectory(named)
  const person = callingPerson()
  // Other users must not read the files that the commands make.
  process.umask(0o077)
  if (!becomeOwner(state)) {
    throw new NetimageError('not-allowed', `root cannot change ${state} as its owner`, {
      details: { file: state },
      hint: 'Run this as the user of the server. If its service has DynamicUser=yes, give it User= instead: docs/serve.md shows how.',
    })
  }
  openState(state)
  return { state, person }
}

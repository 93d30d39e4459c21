/** Opens the state directory for commands that change it. */
import { NetimageError } from '../errors.ts'
import { becomeOwner } from './become-owner.ts'

/** Makes the state directory if there is none. */
export async function openStateToChange(named: string | undefined): Promise<string> {
  const { openState, stateDirectory } = await import('../serve/state.ts')
  const state = stateDirectory(named)
  // Other users must not read the files that the commands make.
  process.umask(0o077)
  if (!becomeOwner(state)) {
    throw new NetimageError('not-allowed', `root cannot change ${state} as its owner`, {
      details: { file: state },
      hint: 'Run this as the user of the server. If its service has DynamicUser=yes, give it User= instead: docs/serve.md shows how.',
    })
  }
  openState(state)
  return state
}

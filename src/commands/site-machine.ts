/** Finds the machine of a site that a person names, and opens the site to change it. */
import { machineIn, type MachineNames } from '../site/find-machine.ts'
import type { Life } from '../site/life/life.ts'
import type { HostKey } from '../site/host-key/open-ssh.ts'
import type { Entry } from '../site/log/entry.ts'
import { saysWho } from '../site/log/sentence.ts'
import type { BrokenRow } from '../site/rows.ts'
import type { SiteWriter } from '../site/statements.ts'
import { openStateToChange, type OpenedState } from './open-state.ts'

/** A machine of a site that is open to be changed, beside a running server. */
export interface MachineOfSite {
  /** The state directory. */
  state: string
  machine: string
  /** The name that a person gave it. */
  name: string | undefined
  life: Life
  /** Who runs the command, in words. */
  by: string
  /** The host key that the site made for it. @throws `NetimageError` */
  hostKey: () => HostKey | undefined
  /** The change and its row in the log are on the disk when this resolves, or none of them. */
  change: <T>(action: (writer: SiteWriter) => Change<T>) => Promise<T>
}

/** What the action of a command has changed. */
export interface Change<T> {
  /** Missing if nothing was changed. */
  entry?: Entry
  outcome: T
}

/**
 * @param named the state directory that the person named
 * @param text a hardware or IP address in any form, a name, or a serial number
 * @throws `NetimageError` `unknown-machine` for a name that no machine has
 */
export async function withMachine<T>(
  named: string | undefined,
  text: string,
  use: (found: MachineOfSite) => Promise<T>,
): Promise<T> {
  return await withMachineOf(await openStateToChange(named), text, use)
}

/** As `withMachine`, in a state that is open to be changed. */
export async function withMachineOf<T>(
  { state, person }: OpenedState,
  text: string,
  use: (found: MachineOfSite) => Promise<T>,
): Promise<T> {
  const { changeSite } = await import('../site/change-site.ts')
  return await changeSite(state, async ({ read, change }) => {
    const names = read.names()
    const broken: BrokenRow[] = []
    const declarations = read.declarations((error) => broken.push(error))
    const machine = machineIn({ names, declarations, broken }, text)
    return await use({
      ...{ state, machine, name: names.get(machine), life: read.lifeOf(machine) },
      by: saysWho(person, undefined),
      hostKey: () => read.hostKeyOf(machine),
      change: (action) =>
        change((writer) => {
          const { entry, outcome } = action(writer)
          if (entry) writer.note({ at: Date.now(), machine, who: person, entry })
          return outcome
        }),
    })
  })
}

/**
 * The machine that a person names, for commands that change nothing in the site.
 *
 * @param text a hardware or IP address in any form, a name, or a serial number
 * @throws `NetimageError` `unknown-machine` for a name that no machine has
 */
export async function findMachine(state: string, text: string): Promise<string> {
  return machineIn(await machineNames(state), text)
}

/** The names of the machines of a site, by machine. */
export async function namesIn(state: string): Promise<ReadonlyMap<string, string>> {
  return (await machineNames(state)).names
}

async function machineNames(state: string): Promise<MachineNames> {
  const { openSiteToRead } = await import('../site/database.ts')
  const site = openSiteToRead(state)
  try {
    const broken: BrokenRow[] = []
    const declarations = site?.declarations((error) => broken.push(error)) ?? new Map()
    return { names: site?.names() ?? new Map(), declarations, broken }
  } finally {
    site?.close()
  }
}

/** Finds the machine of a site that a person names, and opens the site to change it. */
import { isIPv4 } from 'node:net'

import { NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { addressIn } from '../protocols/machine-address.ts'
import type { Life } from '../site/life/life.ts'
import type { HostKey } from '../site/host-key/open-ssh.ts'
import type { Entry } from '../site/log/entry.ts'
import { saysWho } from '../site/log/sentence.ts'
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
 * @param text a hardware or IP address in any form, or a name
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
    const machine = machineIn(names, text)
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
 * @param text a hardware or IP address in any form, or a name
 * @throws `NetimageError` `unknown-machine` for a name that no machine has
 */
export async function findMachine(state: string, text: string): Promise<string> {
  const { openSiteToRead } = await import('../site/database.ts')
  const site = isAddress(text) ? undefined : openSiteToRead(state)
  try {
    return machineIn(site?.names() ?? new Map(), text)
  } finally {
    site?.close()
  }
}

function isAddress(text: string): boolean {
  return parseMac(text) !== undefined || isIPv4(text)
}

/** Whether a machine has this name, or it is an address. */
export function isMachine(names: ReadonlyMap<string, string>, text: string): boolean {
  return isAddress(text) || [...names.values()].includes(text.toLowerCase())
}

/** @param names of machines, by machine */
export function machineIn(names: ReadonlyMap<string, string>, text: string): string {
  if (isAddress(text)) return addressIn(text)
  const wanted = text.toLowerCase()
  for (const [machine, name] of names) if (name === wanted) return machine
  throw new NetimageError('unknown-machine', `no machine of the site has the name ${text}`, {
    details: { actual: text },
    hint: 'Give its hardware address, or list the machines with: netimage site status.',
  })
}

/**
 * What a person wants of a site, as `site.toml` says it: groups of machines with one image each, in the
 * order of the file.
 */
import { defaultKeep } from '../life/kept.ts'
import { defaultPolicy } from '../life/life.ts'
import type { GroupSettings } from '../rollout/rollout.ts'

export interface Desired {
  groups: readonly Group[]
  machines: readonly DesiredMachine[]
}

/** Machines with one image. */
export interface Group extends Pick<GroupSettings, 'health' | 'rebuild' | 'keep'> {
  name: string
  /** As written: a flake reference, a store path, a directory, or an image of the site by id or name. */
  system: string
  /** Names, hardware or IP addresses, and patterns of these with `*`. In lower case. */
  machines: readonly string[]
  waves: readonly Wave[]
  /** How many machines may be booting at once. */
  maxUnavailable: Share
  /** How many bad machines stop a roll-out. In the first wave, one does. */
  halt: Share
}

/** A number of machines, or a part of those of a group: 1 to 100 percent. */
export type Share = { count: number } | { percent: number }

/** A portion of a group. */
export interface Wave {
  /** `rest`: all machines that no earlier wave has. */
  members: 'rest' | Share | { machines: readonly string[] }
  /** Whether the next wave waits for a person. */
  pause: boolean
}

export interface DesiredMachine {
  name: string
  /** Its hardware addresses. */
  macs: readonly string[]
  /** As `serial-number.ts` has them. */
  serials: readonly string[]
  hostName?: string
  /** An IPv4 address. */
  address?: string
  /** A program with its arguments, which lets the machine start again. */
  reboot?: readonly string[]
  /** A program with its arguments, which switches the power of the machine off and on. */
  power?: readonly string[]
}

/** What a group has if the file does not say otherwise. */
export const defaultGroup = {
  waves: [{ members: 'rest', pause: false }],
  health: { ...defaultPolicy, tcp: [] },
  halt: { count: 2 },
  rebuild: 'allow',
  keep: defaultKeep,
} as const satisfies Omit<Group, 'name' | 'system' | 'machines' | 'maxUnavailable'>

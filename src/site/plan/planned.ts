/**
 * What has to change so that the machines of a site boot what its file says. A plan is plain data. The
 * output of `netimage site plan --json` is a plan.
 */
import type { CheckFinding } from '../../check/check-system.ts'
import type { KeptFiles } from '../../roots/kept-files.ts'
import type { Declaration } from '../declarations.ts'
import type { GroupSettings, Rollout } from '../rollout/rollout.ts'
import type { ClosureDifference } from './closure-difference.ts'

/** What there is to do, without what only people want to know. */
export interface Decided {
  /** SHA-256, in base16, of all that applying the plan depends on. */
  digest: string
  /** Whether each machine boots next what the file says, or gets it by a roll-out, and has its name. */
  isDone: boolean
  groups: readonly DecidedGroup[]
  /** Roll-outs that end because the file has no such group any more, or no machine in it. */
  ends: readonly PlannedEnd[]
  /** Machines whose group is another one than until now. */
  moves: readonly PlannedMove[]
  /** Names that the file gives to machines, and that they do not have in the site. */
  names: readonly PlannedName[]
  /** What the file declares of machines, if it is other than when it was applied last. */
  declarations: readonly PlannedDeclaration[]
  /** What may be as the person wants it: sentences without a full stop. */
  notes: readonly string[]
}

export interface Plan extends Decided {
  version: 1
  groups: readonly PlannedGroup[]
}

export interface PlannedEnd {
  group: string
  rollout: number
}

export interface PlannedMove {
  machine: string
  from?: string
  to?: string
}

export interface PlannedName {
  machine: string
  name: string
  /** The name that it has. */
  before?: string
}

export interface PlannedDeclaration {
  machine: string
  name?: string
  /** Missing: the file declares nothing of it any more. */
  declared?: Declaration
  before?: Declaration
}

export interface PlannedGroup extends DecidedGroup {
  /** One for all machines that boot the same next now. Only of machines that are to boot something else. */
  changes: readonly PlannedChange[]
  /** What `netimage check` finds in the image. */
  findings: readonly CheckFinding[]
  /**
   * Files outside the store paths that machine and image both have changed, so that they stay as the machine has
   * them. Only of machines that are to boot something else, and have such files.
   */
  kept: readonly PlannedKept[]
}

/** What will stay on a machine although the image brings something else. */
export type PlannedKept = { machine: string } & (KeptFiles | { problem: string })

export interface DecidedGroup extends GroupSettings {
  name: string
  /** As written in the file. */
  system: string
  image: PlannedImage
  machines: readonly PlannedMachine[]
  /** The newest roll-out of the group. */
  rollout?: PlannedRollout
  /**
   * Why applying the plan begins a roll-out. Missing if it begins none: nothing is to be done, the newest
   * roll-out does it, or this has halted.
   *
   * - `first`: the group has had no roll-out
   * - `image`: the newest roll-out brings another image
   * - `settings`: the group has other settings than its newest roll-out
   * - `machines`: machines have left the image since, or the newest roll-out was aborted
   */
  begins?: 'first' | 'image' | 'settings' | 'machines'
  /** The settings that are other than those of the newest roll-out. */
  changedSettings?: readonly string[]
}

export interface PlannedRollout {
  number: number
  state: Rollout['state']
  reason?: string
}

export interface PlannedImage {
  id: string
  /** The name of its root tree. */
  name: string
  /** The NixOS label. */
  label: string
  /** As Nix names it: `aarch64-linux`. */
  platform: string
  toplevel: string
  /** The path of the kernel that it starts by default. */
  kernel: string
}

export interface PlannedMachine {
  /** The key by which the site knows it. */
  machine: string
  name?: string
  hostName?: string
  address?: string
  reboot?: readonly string[]
  power?: readonly string[]
  /** The generations that it boots next now, and that it goes back to. */
  current?: number
  lastGood?: number
  /**
   * - `nothing`: it boots the image next already
   * - `new`: the image becomes a generation, in trial
   * - `back`: it goes back to its last good generation, which is this image
   * - `refused`: the image was bad on this machine
   */
  change: 'nothing' | 'new' | 'back' | 'refused'
  refused?: { generation: number; reason?: string }
  /** It boots a system that it built itself, and the image replaces this. */
  replacesOwn?: string
  /** It has never booted from this site, or gave no sign for so long. Milliseconds in which servers ran. */
  away?: 'never seen' | number
  /** A person left it out. */
  isHeld?: true
}

/** What machines boot next now. */
export interface Booted {
  image: string
  toplevel: string
  /** Only if machines built the system themselves, over the image. */
  isOwn?: true
  /** These are missing if the site does not have the image, or the boot files, any more. */
  name?: string
  platform?: string
  label?: string
  kernel?: string
}

export interface PlannedChange {
  machines: readonly string[]
  /** Missing for machines that have nothing to boot yet. */
  from?: Booted
  /** Between the closures of two images. Missing if one of them is not known. */
  difference?: ClosureDifference
}

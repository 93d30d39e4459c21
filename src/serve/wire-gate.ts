/** The gate with what it asks: the site, the images, and the follower of boots. */
import { followBoots, type Boot, type Follower } from '../boots/follow.ts'
import type { NetimageError } from '../errors.ts'
import { bootsOtherNext } from '../site/life/life.ts'
import type { Site } from '../site/site.ts'
import { isWithin, type Defaults } from './defaults.ts'
import { earlierBoots } from './earlier-boots.ts'
import { createGate, type Gate } from './gate.ts'
import type { FindGone } from './gone-systems.ts'
import type { OpenSystems } from './open-systems.ts'
import type { Identities } from './identity.ts'

export interface GateParts {
  site: Site
  systems: OpenSystems
  defaults: Pick<Defaults, 'of'>
  identities: Identities
  /** The last boot of each machine that earlier runs of the server saw, the newest first. */
  boots: readonly Boot[]
  findGone: FindGone
  onBegin: (machine: string) => void
  onError: (error: NetimageError) => void
  /** Milliseconds since 1970. */
  now?: () => number
}

export interface WiredGate {
  gate: Gate
  follower: Follower
}

export function wireGate(parts: GateParts): WiredGate {
  const { site, systems, defaults, identities, boots, ...callbacks } = parts
  const partOf = (machine: string, file: string) => {
    const booted = gate.now(machine)
    const part = typeof booted === 'object' ? booted.system.partOf(file) : undefined
    return part ?? systems.partOf(file)
  }
  const isRoot = (path: string, machine: string) => {
    const plain = path.replace(/\/+$/, '') || '/'
    return systems.isRoot(plain) || isOfNext(machine, plain)
  }
  /**
   * Whether the path may be the root of a generation that was chosen for the machine since its last
   * start. A machine with boot files from elsewhere tells only by this path that it boots, and the
   * server opens the image only then.
   */
  const isOfNext = (machine: string, path: string) => {
    const booted = gate.now(machine)
    if (typeof booted !== 'object' || isWithin(path, booted.system.rootPath)) return false
    try {
      return bootsOtherNext(site.lifeOf(machine))
    } catch {
      // The machine gets the error when it asks the gate, and the error is told then.
      return false
    }
  }
  const follower = followBoots({
    partOf,
    nameOf: (ip) => identities.toldNameAt(ip),
    isServed: identities.isAllowed,
    mayForget: (machine) => !gate.hasAttempt(machine),
    isRoot,
    earlierBoots: earlierBoots(boots, site.interrupted),
  })
  const gate = createGate({
    ...{ site, follower, partOf },
    ...callbacks,
    defaultFor: (machine, event) => defaults.of(machine, event)?.candidate,
    open: (machine, current) => systems.open(machine, current),
    openDefault: ({ image }) => systems.openImage(image),
    isNamed: (machine) => identities.isNamed(machine),
    isConnected: (machine, besides) => identities.isConnected(machine, besides),
    isActive: (machine) => identities.isActive(machine),
  })
  return { gate, follower }
}

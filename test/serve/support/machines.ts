// The machines of a server with their gate, without the servers of the protocols.

import assert from 'node:assert/strict'
import type { NetimageError } from '../../../src/errors.ts'
import { createDefaults } from '../../../src/serve/defaults.ts'
import { createFindGone } from '../../../src/serve/gone-systems.ts'
import type { Gate } from '../../../src/serve/gate.ts'
import { createOpenSystems, type OpenSystems } from '../../../src/serve/open-systems.ts'
import type { Identities } from '../../../src/serve/identity.ts'
import { addDefaults } from '../../../src/serve/images.ts'
import {
  createMachines,
  type Machines,
  type MachinesSettings,
} from '../../../src/serve/machines.ts'
import { createPreparing } from '../../../src/serve/prepare-layer.ts'
import { createSiteFiles } from '../../../src/serve/site-files.ts'
import { createStrangerLayers } from '../../../src/serve/stranger-layers.ts'
import { wireGate } from '../../../src/serve/wire-gate.ts'
import type { Told } from '../../../src/site/life/life.ts'
import { openSite, type Site } from '../../../src/site/site.ts'
import type { NfsMachine } from '../../../src/protocols/nfs/machine.ts'
import { waitUntil } from '../../support/waiting.ts'
import { callerAt } from './identities.ts'

export interface OpenMachines extends AsyncDisposable {
  machines: Machines
  gate: Gate
  systems: OpenSystems
  site: Site
  errors: NetimageError[]
  told: Told[]
  /** The machine with this name is up, and some time passes. */
  isUp: (name: string) => void
  /** The machine with this name, which the site knows, begins a boot. */
  boots: (name: string) => Promise<void>
}

/**
 * @param images that `build` made
 * @param ephemeral whether layers are reset at each boot
 * @param prepare makes what prepares layers
 */
export async function openMachines(
  state: string,
  images: readonly string[],
  identities: Identities,
  limits: { maxOpen?: number; most?: number } & Pick<MachinesSettings, 'ownerOf'> = {},
  ephemeral = false,
  prepare = createPreparing,
): Promise<OpenMachines> {
  const errors: NetimageError[] = []
  const told: Told[] = []
  const onTold = (each: Told) => void told.push(each)
  let time = Date.now()
  const onError = (error: NetimageError) => void errors.push(error)
  const systems = createOpenSystems({ state, http: 'http://127.0.0.1/', onError })
  const defaults = createDefaults({
    images: await addDefaults({ state, images }, systems, undefined),
  })
  const site = openSite({ state, at: Date.now(), onTold, onError })
  const { gate, follower } = wireGate({
    ...{ site, systems, defaults, identities, boots: [], onError },
    findGone: createFindGone({
      ...{ state, systems, onError, ephemeral },
      whenClosed: (machine) => machines.whenClosed(machine),
    }),
    onBegin: (machine) => machines.begins(machine),
    now: () => time,
  })
  const machines: Machines = createMachines({
    ...{ gate, state, identities, onError, ephemeral },
    onWait: (machine, kind) => site.sign(machine, { kind }, time),
    // As the server does when it reports the mount.
    onOpen: (machine) => site.sign(machine, { kind: 'step', step: 'mount' }, time),
    siteFilesOf: createSiteFiles({ state, site, onError }),
    prepareLayer: prepare({ state, site, onTold, onError }),
    mayHaveLayer: createStrangerLayers({ state, isKnown: () => false, onError, ...limits }),
    ...limits,
  })
  const clueOf = (name: string) => (name.includes(':') ? { mac: name } : { address: name })
  const isUp = (name: string) => {
    follower.see({ kind: 'root', step: 'init', ...clueOf(name) }, time)
    time += 5000
  }
  return {
    ...{ machines, gate, systems, site, errors, told },
    isUp,
    async boots(name) {
      isUp(name)
      const event = { kind: 'dhcp', step: 'discover', proxy: false, architecture: 0 } as const
      await gate.enter(name, { ...event, ...clueOf(name) })
    },
    async [Symbol.asyncDispose]() {
      await machines.close()
      site.close(Date.now())
      systems.close()
    },
  }
}

/** The root of a machine that mounts it, as soon as it is open. */
export async function rootOf(
  { machines }: Pick<OpenMachines, 'machines'>,
  address: string,
  caller = callerAt(address),
  path = '/srv/test',
): Promise<NfsMachine['exports'][number]> {
  let machine: ReturnType<Machines['nfsMachineOf']> = 'busy'
  await waitUntil(`the root of ${address} is open`, () => {
    machine = machines.nfsMachineOf(caller, path)
    return machine !== 'busy'
  })
  assert.ok(typeof machine === 'object', address)
  const [root] = (machine as NfsMachine).exports
  assert.ok(root)
  return root
}

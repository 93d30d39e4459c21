/** Makes generations of the systems that machines publish from their roots. */
import { NetimageError } from '../errors.ts'
import { toStorePath, type StorePath } from '../nix/store-path.ts'
import type { FileSystem } from '../protocols/nfs/file-system.ts'
import { specialisationsOf } from '../site/candidate.ts'
import { findKnown, type Assigned } from '../site/life/choose.ts'
import { keptOf } from '../site/life/kept.ts'
import { type Candidate, type Generation, type Life } from '../site/life/life.ts'
import { createPublishing, type Publishing, type Taken } from '../site/publish/publishing.ts'
import type { PublishImage } from '../site/publish/boot-tree.ts'
import type { OpenSystems } from './open-systems.ts'
import { publishedOf, removeUnfinished, type Published } from '../site/publish/published.ts'
import type { Refusal } from '../site/publish/request.ts'
import type { Site } from '../site/site.ts'

export interface PublishingSurroundings {
  state: string
  site: Pick<Site, 'assign' | 'lifeOf' | 'note' | 'groupThatRefuses'>
  systems: Pick<OpenSystems, 'openImage'>
  machines: {
    rootOf(
      machine: string,
    ): { fileSystem: FileSystem; system: { publishImage: PublishImage } } | undefined
  }
  /** Whether this process serves the machine. Default: it serves all machines. */
  owns?: ((machine: string) => boolean) | undefined
  /** Whether the layers of machines are reset at each boot. */
  ephemeral: boolean
  onError: (error: NetimageError) => void
}

export function startPublishing({
  state,
  site,
  systems,
  machines,
  owns = () => true,
  ephemeral,
  onError,
}: PublishingSurroundings): Publishing {
  function rootOf(machine: string) {
    const root = machines.rootOf(machine)
    return root && { fileSystem: root.fileSystem, image: root.system.publishImage }
  }

  async function take(machine: string, published: Published): Promise<Taken | Refusal> {
    const { id, image, keptImages, system, blesses } = published
    const { toplevel } = system
    const specialisations = specialisationsOf(system)
    const more = { published: id, keptImages, specialisations, blesses }
    return await assign(machine, { image, toplevel, ...more })
  }

  async function assign(machine: string, candidate: Candidate): Promise<Taken | Refusal> {
    // The machine may have left the image while its boot files were made. From here on the image
    // stays: it is open until it is assigned, and needed afterwards.
    await systems.openImage(candidate.image)
    const assigned = await site.assign(machine, candidate, Date.now(), 'machine')
    if ('refused' in assigned) return wasBad(machine, assigned.refused)
    return taken(machine, assigned)
  }

  function taken(machine: string, { result, generation }: Pick<Assigned, 'result' | 'generation'>) {
    const { number } = generation
    const says = {
      new: [
        `The server made generation ${number} of this machine.`,
        'The machine boots it next, in trial.',
      ],
      same: [`This is generation ${number} of this machine.`, 'The machine boots it already.'],
      back: [
        `This is generation ${number} of this machine.`,
        'The machine boots it next: it was good before.',
      ],
    }
    return { keep: toplevelsOf(site.lifeOf(machine)), says: says[result] }
  }

  removeUnfinished(state, owns, (message) =>
    onError(new NetimageError('file-system', message, { details: { file: state } })),
  )
  return createPublishing({
    ...{ rootOf, take, onError },
    async onRefused(machine, toplevel, reason) {
      const entry = { kind: 'refused', reason, ...(toplevel && { toplevel }) } as const
      await site.note({ at: Date.now(), machine, who: { kind: 'machine' }, entry })
    },
    directoryOf: (machine) => publishedOf(state, machine),
    async known(machine, toplevel) {
      const group = site.groupThatRefuses(machine)
      if (group !== undefined) return refusedBy(group)
      const known = findKnown(site.lifeOf(machine), { toplevel })
      if (known && 'refused' in known) return wasBad(machine, known.refused)
      // An image has the boot files of its system, also those that only its build can make.
      if (known && known.generation.published === undefined) {
        if (known.result === 'same') return taken(machine, known)
        const { image, blesses } = known.generation
        return await assign(machine, { image, toplevel, blesses })
      }
      return ephemeral ? isGoneAtNextBoot : undefined
    },
    needed: (machine) =>
      new Set(keptOf(site.lifeOf(machine)).flatMap(({ published }) => published ?? [])),
  })
}

function refusedBy(group: string): Refusal {
  return {
    why: `machines of the group ${group} boot only what the site gives them (rebuild = "refuse")`,
    hint: 'Build the system for the whole group, and apply it on the server: netimage site apply.',
  }
}

/** The system is only in the files of the machine. */
const isGoneAtNextBoot: Refusal = {
  why: 'the server removes all that the machine wrote at its next boot (serve --ephemeral), and the system with it',
  hint: 'Build an image of the system, and assign it on the server: netimage site add, netimage site assign.',
}

function wasBad(machine: string, { number, reason }: Generation): Refusal {
  const because = reason === undefined ? '' : ` (${reason})`
  return {
    why: `it was bad on this machine as generation ${number}${because}`,
    hint: `If it is good after all, say so on the server: netimage site good ${machine} ${number}. Then run nixos-rebuild again.`,
  }
}

/** Systems that the machine made itself and must not remove. */
function toplevelsOf(life: Life): StorePath[] {
  return keptOf(life).flatMap(({ published, toplevel }) => {
    const path = published !== undefined ? toStorePath(toplevel) : undefined
    return path === undefined ? [] : [path]
  })
}

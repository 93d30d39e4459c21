/** Makes generations of the systems that machines publish from their roots. */
import type { NetimageError } from '../errors.ts'
import { toStorePath, type StorePath } from '../nix/store-path.ts'
import { isSame, keptOf, type Life } from '../site/life/life.ts'
import { createPublishing, type Publishing, type Taken } from '../site/publish/publishing.ts'
import type { Published } from '../site/publish/published.ts'
import type { Site } from '../site/site.ts'
import { publishedOf } from './generations.ts'
import type { Machines } from './machines.ts'

export interface PublishingSurroundings {
  state: string
  site: Pick<Site, 'assign' | 'lifeOf'>
  machines: Pick<Machines, 'rootOf'>
  onError: (error: NetimageError) => void
}

export function startPublishing({
  state,
  site,
  machines,
  onError,
}: PublishingSurroundings): Publishing {
  function rootOf(machine: string) {
    const root = machines.rootOf(machine)
    return root && { fileSystem: root.fileSystem, image: root.generation.publishImage }
  }

  async function take(machine: string, published: Published): Promise<Taken> {
    const { id, image, system, blesses } = published
    const { toplevel } = system
    const candidate = { image, source: 'published', published: id, toplevel, blesses } as const
    const { result, generation } = await site.assign(machine, candidate, Date.now(), 'machine')
    const { number } = generation
    const keep = toplevelsOf(site.lifeOf(machine))
    const says = {
      new: `The machine boots it next, in trial.`,
      same: 'The machine boots it already.',
      back: 'The machine boots it next: it was good before.',
      bad: 'It was bad on this machine.',
    }
    return { number, keep, says: [says[result]] }
  }

  return createPublishing({
    ...{ rootOf, take, onError },
    directoryOf: (machine) => publishedOf(state, machine),
    refusalOf(machine, toplevel) {
      const bad = site
        .lifeOf(machine)
        .generations.findLast(
          (each) =>
            each.verdict === 'bad' && isSame(each, { ...each, source: 'published', toplevel }),
        )
      if (!bad) return undefined
      const reason = bad.reason === undefined ? '' : ` (${bad.reason})`
      return `it was bad on this machine as generation ${bad.number}${reason}. To try it again, run on the server: netimage site good ${machine} ${bad.number}`
    },
    needed: (machine) =>
      new Set(keptOf(site.lifeOf(machine)).flatMap(({ published }) => published ?? [])),
  })
}

/** Systems that the machine made itself and must not remove. */
function toplevelsOf(life: Life): StorePath[] {
  return keptOf(life).flatMap(({ source, toplevel }) => {
    const path = source === 'published' ? toStorePath(toplevel) : undefined
    return path === undefined ? [] : [path]
  })
}

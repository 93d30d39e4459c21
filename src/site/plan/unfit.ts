/** Images that cannot boot on machines of their group. */
import { isPcPlatform } from '../../boot/request.ts'
import { saysMachines } from '../../says-list.ts'
import type { Problem } from '../desired/problem.ts'
import type { Plan } from './planned.ts'

/** A machine that boots an image has a processor for it. The image that it gets must be for that as well. */
export function unfitImages({ groups }: Pick<Plan, 'groups'>): Problem[] {
  return groups.flatMap(({ name, image, changes, machines: all }) => {
    const names = new Map(all.map(({ machine, name = machine }) => [machine, name]))
    return changes.flatMap(({ machines, from }): Problem[] => {
      const platform = from?.platform
      if (platform === undefined || fits(image.platform, platform)) return []
      return [
        {
          field: `group.${name}.system`,
          message: `the image is for ${image.platform}, but ${saysMachines(machines, names)} of this group boot ${platform}`,
          hint: 'Make a group for each kind of machine, with an image of its own.',
        },
      ]
    })
  })
}

function fits(one: string, other: string): boolean {
  return one === other || (isPcPlatform(one) && isPcPlatform(other))
}

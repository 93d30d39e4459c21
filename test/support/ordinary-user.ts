// Runs the program as an ordinary user, who needs the checkout at another path.

import { join } from 'node:path'
import { asOrdinaryUser } from './namespace.ts'
import { netimage, repository, type Run } from './netimage.ts'

/**
 * @param place the path at which the user can read the checkout; this makes it
 * @param home the user's working directory
 * @param through a command prefix
 */
export async function netimageAsUser(
  args: readonly string[],
  { place, home, through = [] }: { place: string; home: string; through?: readonly string[] },
): Promise<Run> {
  const user = asOrdinaryUser(place)
  const moved = user.length > 0 ? ['env', '-C', home, ...through, ...programAt(place)] : through
  return await netimage(args, { through: [...user, ...moved], cwd: home })
}

/**
 * The program and Node by their paths for that user. `netimage()` appends our own paths, which this
 * removes.
 */
function programAt(place: string): string[] {
  const inPlace = (path: string) => path.replace(repository, place)
  const script = 'node=$1; cli=$2; shift 4; exec "$node" "$cli" "$@"'
  return ['sh', '-c', script, 'sh', inPlace(process.execPath), join(place, 'src/cli.ts')]
}

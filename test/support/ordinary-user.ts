// Runs the program as an ordinary user, and makes that user’s things ours and theirs.

import { join } from 'node:path'
import { asOrdinaryUser } from './namespace.ts'
import { netimage, repository, type Run } from './netimage.ts'

/**
 * @param place where the user finds a checkout that they may read; it is made
 * @param home their working directory
 * @param through goes before the program
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
 * The program and Node as the user finds them: `netimage()` appends where they are for us, which
 * this drops.
 */
function programAt(place: string): string[] {
  const inPlace = (path: string) => path.replace(repository, place)
  const script = 'node=$1; cli=$2; shift 4; exec "$node" "$cli" "$@"'
  return ['sh', '-c', script, 'sh', inPlace(process.execPath), join(place, 'src/cli.ts')]
}

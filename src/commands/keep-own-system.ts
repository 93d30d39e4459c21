/** A system that a machine built itself is only in its files, so they must stay as long as it boots it. */
import { NetimageError } from '../errors.ts'
import type { StoredLayer } from '../roots/stored-layer.ts'
import { generationOf, type Generation, type Life } from '../site/life/life.ts'

/**
 * To be called before a command removes what a machine wrote.
 *
 * @param state the state directory that the person named
 * @param left the time of the state that the machine has afterwards: milliseconds since 1970;
 *   undefined: it has nothing
 * @throws `NetimageError` `bad-generation` if the machine would boot a system that is gone
 */
export async function mustKeepOwnSystem(
  state: string | undefined,
  { machine, older }: StoredLayer,
  left?: number,
): Promise<void> {
  if (older !== undefined) return
  const { stateDirectory } = await import('../serve/state.ts')
  const { openSiteToRead } = await import('../site/database.ts')
  const site = openSiteToRead(stateDirectory(state))
  if (!site) return
  try {
    const life = site.lifeOf(machine)
    const lost = [life.current, life.lastGood]
      .map((number) => generationOf(life, number))
      .find((each) => each?.published !== undefined && (left === undefined || each.madeAt > left))
    if (lost) throw wouldLose(life, lost)
  } finally {
    site.close()
  }
}

function wouldLose({ machine, current, generations }: Life, { number }: Generation): NetimageError {
  const boots = number === current ? 'boots generation' : 'goes back to generation'
  const image = generations.findLast(
    ({ verdict, published }) => verdict === 'good' && published === undefined,
  )
  return new NetimageError(
    'bad-generation',
    `${machine} ${boots} ${number}, a system that it built itself, which would be gone with its files`,
    {
      details: { actual: number },
      hint: image
        ? `Let it boot an image first: netimage site rollback ${machine} --to ${image.number}.`
        : `Let it boot an image first: netimage site assign ${machine} IMAGE, and, so that it does not go back, netimage site bad ${machine} ${number}.`,
    },
  )
}

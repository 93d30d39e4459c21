/** The ways in which a machine can stand in a roll-out. How each one stands is read from its life: see stand.ts. */

/** What a stand means for the wave of the machine. */
type InWave =
  | 'good'
  /** Until the machine stands otherwise, the wave does not end. */
  | 'holds it up'
  /** The machine holds up the wave only if it is about to try the image, or has tried it. */
  | 'may try'
  /** The machine is not going to try the image. */
  | 'is out'

/** In the order in which people want to read them. */
const meanings = {
  good: 'good',
  bad: 'holds it up',
  /**
   * It began to try the image. Then the server ended, or it asked only DHCP, and it has not been seen for
   * long since. Or the image was good on it before, and it does not come up now.
   */
  lost: 'holds it up',
  /** It tries the image. */
  booting: 'holds it up',
  /** It was asked to restart, and has not started again. */
  asked: 'holds it up',
  /** It boots the image at its next start. */
  assigned: 'may try',
  /**
   * It has not been given the image, or is to be given it again: it went back because the image was bad, and
   * then a person called the image good.
   */
  pending: 'holds it up',
  /** It was given the image, and has not been seen since. */
  waiting: 'may try',
  /** A person left it out. */
  held: 'is out',
  /** The image was bad on it before. */
  refused: 'is out',
  /**
   * It was given the image, and then a person or the machine itself chose something else, or a person let the
   * site forget the machine.
   */
  other: 'is out',
  /** It belongs to another group now, or to none. */
  moved: 'is out',
  /** Its rows in the site's database are broken. */
  broken: 'is out',
} as const satisfies Record<string, InWave>

export type Stand = keyof typeof meanings

export function inWave(stand: Stand): InWave {
  return meanings[stand]
}

/** How many machines stand in each way, if any do. */
export type StandCounts = Partial<Record<Stand, number>>

export function countStands(stands: Iterable<Stand>): StandCounts {
  const counts: StandCounts = {}
  for (const stand of stands) counts[stand] = (counts[stand] ?? 0) + 1
  return counts
}

/** As in `3 good, 1 booting`: in the order in which people want to read them. */
export function saysCounts(counts: StandCounts): string {
  const known: Record<string, number> = counts
  return Object.keys(meanings)
    .flatMap((stand) => (known[stand] ? [`${known[stand]} ${stand}`] : []))
    .join(', ')
}

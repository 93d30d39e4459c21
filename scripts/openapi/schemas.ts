/** What the answers of the page's server look like. `Fits` lets the compiler compare this with their types. */
import * as v from 'valibot'

import type { Boot } from '../../src/boots/follow.ts'
import type { FoundBoots } from '../../src/boots/read.ts'
import { bootSteps } from '../../src/boots/step.ts'
import type { ShownImages } from '../../src/page/images.ts'
import type { ShownGroup, ShownMachine } from '../../src/page/shown.ts'
import type { Target } from '../../src/page/targets.ts'
import type { LeftFiles } from '../../src/site/left-files.ts'
import { whoSchema } from '../../src/site/log/entry.ts'
import type { ShownLogRow } from '../../src/site/log/shown.ts'
import type { ShownAttempt, ShownGeneration } from '../../src/site/status.ts'

const time = v.pipe(v.number(), v.description('Milliseconds since 1970.'))
const count = v.pipe(v.number(), v.integer(), v.minValue(0))
const texts = v.pipe(v.array(v.string()), v.readonly())
const yes = v.literal(true)
const step = v.picklist(bootSteps)

const steps = v.pipe(
  v.strictObject(v.entriesFromList(bootSteps, v.exactOptional(v.number()))),
  v.description('By step. Steps that the machine skips are left out.'),
)

export const boot = v.pipe(
  v.strictObject({
    machine: v.pipe(
      v.string(),
      v.description('The hardware address or, if it is not known, the IP address.'),
    ),
    address: v.exactOptional(v.string()),
    started: time,
    step,
    steps,
    lastSign: time,
    bytes: v.pipe(v.number(), v.description('Bytes of boot files that were sent.')),
    sending: v.exactOptional(v.pipe(count, v.description('Boot files that are being sent now.'))),
    asksToBoot: v.exactOptional(yes),
    trouble: v.exactOptional(v.pipe(v.string(), v.description('The last problem.'))),
    isFromBefore: v.exactOptional(yes),
  }),
  v.description('One boot of a machine, as in `netimage boots --json`.'),
)

const ports = v.pipe(v.array(count), v.readonly())

export const generation = v.pipe(
  v.strictObject({
    number: count,
    image: v.pipe(v.string(), v.description('The id of the image.')),
    toplevel: v.string(),
    published: v.exactOptional(
      v.pipe(v.string(), v.description('The machine built this system itself.')),
    ),
    keptImages: v.exactOptional(texts),
    specialisations: v.exactOptional(texts),
    blesses: v.boolean(),
    madeAt: time,
    verdict: v.picklist(['trial', 'good', 'bad']),
    reason: v.exactOptional(v.string()),
    failures: count,
    badBy: v.exactOptional(count),
    isExcused: v.exactOptional(yes),
    isGone: v.exactOptional(yes),
    policy: v.exactOptional(
      v.strictObject({
        ...{ tries: count, deadline: v.number(), settle: v.number() },
        tcp: v.exactOptional(ports),
      }),
    ),
  }),
  v.description('What a machine was given to boot, or has published.'),
)

export const attempt = v.pipe(
  v.strictObject({
    ...{ number: count, generation: count, keptImages: texts, startedAt: time },
    outcome: v.picklist(['running', 'good', 'failed', 'void']),
    reason: v.exactOptional(v.string()),
    step: v.exactOptional(step),
    trouble: v.exactOptional(v.string()),
    bootId: v.exactOptional(v.string()),
    otherSystem: v.exactOptional(v.string()),
    hasAnswered: v.exactOptional(yes),
  }),
  v.description('One try of a machine to boot a generation.'),
)

const machineEntries = {
  machine: v.string(),
  name: v.exactOptional(v.string()),
  group: v.exactOptional(v.string()),
  held: v.exactOptional(v.strictObject({ at: time, by: v.string() })),
  declared: v.exactOptional(
    v.pipe(
      v.strictObject({
        macs: v.array(v.string()),
        serials: v.array(v.string()),
        hostName: v.exactOptional(v.string()),
        address: v.exactOptional(v.string()),
      }),
      v.description('What the file of the site says of the machine.'),
    ),
  ),
  last: v.exactOptional(
    v.strictObject({
      ...{ attempt, generation },
      state: v.picklist([
        ...(['up', 'settling', 'booting', 'waiting', 'unseen', 'failed', 'late', 'void'] as const),
      ]),
      says: v.pipe(v.string(), v.description('The state, in words.')),
    }),
  ),
  next: v.exactOptional(generation),
  why: v.pipe(v.string(), v.description('Why it boots that next.')),
  lastGood: v.exactOptional(count),
  stateBefore: v.exactOptional(count),
  alarms: v.pipe(
    texts,
    v.description('Why a person is to look at the machine. What is `overdue` is one of them.'),
  ),
  seenAt: v.exactOptional(
    v.pipe(v.number(), v.description('Its last sign, to a minute or so. Milliseconds since 1970.')),
  ),
  boot: v.exactOptional(boot),
  overdue: v.exactOptional(
    v.pipe(
      v.strictObject({ next: v.string(), causes: texts }),
      v.description('Its boot gives no sign: what should have come next, and the likely causes.'),
    ),
  ),
  layer: v.exactOptional(
    v.pipe(
      v.strictObject({ bytes: v.number(), files: count }),
      v.description('What it wrote, as it was measured in the last ten minutes.'),
    ),
  ),
}

export const machine = v.pipe(
  v.strictObject(machineEntries),
  v.description('A machine, as in `netimage site status --json`, and more.'),
)

export const machineInFull = v.strictObject({
  ...machineEntries,
  leftFiles: v.pipe(
    count,
    v.description('Files that the last change of images left as the machine had them.'),
  ),
  layerProblem: v.exactOptional(v.string()),
  generations: v.array(generation),
  attempts: v.array(attempt),
})

const brokenRow = v.strictObject({
  ...{ code: v.string(), message: v.string() },
  hint: v.exactOptional(v.string()),
})

export const machines = v.strictObject({
  machines: v.array(machine),
  others: v.pipe(
    v.array(boot),
    v.description('The last boots of machines that are not in the site. They only asked.'),
  ),
  broken: v.pipe(
    v.array(v.strictObject({ machine: v.string(), ...brokenRow.entries })),
    v.description('Machines whose rows in the database of the site are broken.'),
  ),
})

const stands = [
  ...(['good', 'bad', 'lost', 'booting', 'asked', 'assigned', 'pending'] as const),
  ...(['waiting', 'held', 'refused', 'other', 'moved', 'broken'] as const),
] as const
const stand = v.picklist(stands)

export const group = v.pipe(
  v.strictObject({
    ...{ group: v.string(), rollout: count },
    state: v.picklist(['running', 'paused', 'halted', 'aborted', 'done', 'replaced']),
    reason: v.exactOptional(v.pipe(v.string(), v.description('Why it does not run.'))),
    wave: v.pipe(count, v.description('The wave that runs, from 1.')),
    waves: count,
    image: v.string(),
    counts: v.pipe(
      v.strictObject(v.entriesFromList(stands, v.exactOptional(count))),
      v.description('Machines by how they stand.'),
    ),
    machines: v.record(v.string(), stand),
    stuck: v.pipe(texts, v.description('Bad machines that nothing but a person restarts.')),
    byHand: v.pipe(
      texts,
      v.description('Machines that boot the image once a person restarts them.'),
    ),
    startedAt: time,
    haltedBy: v.exactOptional(texts),
    machinesOfWaves: v.pipe(v.array(texts), v.readonly()),
    says: v.pipe(v.string(), v.description('Its machines by how they stand, as a sentence.')),
    whatNext: v.pipe(texts, v.description('What a person can do so that it goes on.')),
    usualBoot: v.exactOptional(
      v.pipe(
        v.strictObject({ boots: count, steps }),
        v.description('Medians of its last boots: milliseconds from the start to each step.'),
      ),
    ),
  }),
  v.description('A group and its newest roll-out, as in `netimage site status --json`, and more.'),
)

export const groups = v.strictObject({ groups: v.array(group), broken: v.array(brokenRow) })

const event = v.strictObject({
  at: time,
  event: v.pipe(
    v.looseObject({ kind: v.string(), step: v.string() }),
    v.description('What a protocol of the server has seen.'),
  ),
})

export const boots = v.strictObject({
  boots: v.pipe(v.array(boot), v.description('The newest first.')),
  broken: v.exactOptional(v.pipe(count, v.description('Boots that cannot be read.'))),
  events: v.exactOptional(v.array(event)),
})

export const oneBoot = v.strictObject({ boot, events: v.array(event) })

const row = v.union([
  v.looseObject({
    ...{ number: count, at: time },
    machine: v.exactOptional(v.string()),
    name: v.exactOptional(v.string()),
    who: whoSchema,
    by: v.pipe(v.string(), v.description('Who it was, in words.')),
    kind: v.string(),
    says: v.pipe(v.string(), v.description('What was done, as a sentence.')),
  }),
  v.strictObject({ number: count, broken: v.string() }),
])

export const log = v.strictObject({
  rows: v.pipe(v.array(row), v.description('The oldest first.')),
  last: v.pipe(count, v.description('The number of the newest row.')),
})

export const images = v.strictObject({
  images: v.pipe(
    v.array(
      v.strictObject({
        ...{ id: v.string(), name: v.string(), label: v.string(), platform: v.string() },
        ...{ toplevel: v.string(), added: time, storePaths: count, narBytes: count },
      }),
    ),
    v.readonly(),
  ),
  broken: v.pipe(
    v.array(v.strictObject({ id: v.string(), code: v.string(), message: v.string() })),
    v.readonly(),
  ),
})

export const site = v.strictObject({ version: v.string(), startedAt: time })

export const targets = v.array(
  v.strictObject({
    targets: v.pipe(v.tuple([v.string()]), v.readonly()),
    labels: v.record(v.string(), v.string()),
  }),
)

export const failed = v.strictObject({ error: brokenRow })

type Fits<T, S extends v.GenericSchema> = T extends v.InferOutput<S> ? true : never

/** Compiles only if all values of the types fit. */
export const fits: [
  Fits<Boot, typeof boot>,
  Fits<ShownGeneration, typeof generation>,
  Fits<ShownAttempt, typeof attempt>,
  Fits<ShownMachine, typeof machine>,
  Fits<
    ShownMachine & LeftFiles,
    v.GenericSchema<Omit<v.InferOutput<typeof machineInFull>, 'generations' | 'attempts'>>
  >,
  Fits<ShownGroup, typeof group>,
  Fits<Pick<FoundBoots, 'boots' | 'broken'>, typeof boots>,
  Fits<ShownLogRow, typeof row>,
  Fits<ShownImages, typeof images>,
  Fits<Target[], typeof targets>,
] = [true, true, true, true, true, true, true, true, true, true]

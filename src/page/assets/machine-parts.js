/** The lists and tables of one machine. */
import { el, time } from './dom.js'
import { kindOf, saysGeneration, saysLayer, saysLength, saysState, stepName } from './state.js'
import { called, hashOf, imageSaid, machineHash, plural } from './text.js'

const mostAttempts = 10

export function alarmList({ alarms }) {
  if (alarms.length === 0) return []
  return el(
    'ul',
    { class: 'warning', 'aria-label': 'Alarms' },
    alarms.map((text) => el('li', {}, text)),
  )
}

/** @returns `host name pi1, address 10.0.0.11` */
function saysDeclared({ macs, serials, hostName, address }) {
  return [
    hostName && `host name ${hostName}`,
    address && `address ${address}`,
    serials.length > 0 && `serial number ${serials.join(' or ')}`,
    macs.length > 1 && `hardware addresses ${macs.join(', ')}`,
  ]
    .filter(Boolean)
    .join(', ')
}

export function facts(machine, { images }, now) {
  const {
    last,
    next,
    why,
    held,
    declared,
    group,
    stateBefore,
    seenAt,
    layer,
    leftFiles,
    layerProblem,
    boot,
  } = machine
  const said = (generation) =>
    `generation ${saysGeneration(generation)}, ${imageSaid(images, generation.image)}`
  const rows = [
    ['Now', el('span', { class: `badge ${kindOf(machine)}` }, saysState(machine)), now],
    ['Address', [machine.machine, boot?.address].filter(Boolean).join(', ')],
    ['Group', group === undefined ? '–' : el('a', { href: hashOf('rollouts', group) }, group)],
    ...(held ? [['Held', 'since ', time(held.at), `, by ${held.by}: roll-outs leave it out`]] : []),
    ...(declared ? [['Has', saysDeclared(declared)]] : []),
    ['Runs', last ? said(last.generation) : 'nothing: it has not booted'],
    ['Boots next', next ? said(next) : 'the image of the server'],
    ['Why', why],
    ...(stateBefore === undefined
      ? []
      : [['State', `at its next start, that from before generation ${stateBefore}`]]),
    ['Last seen', seenAt === undefined ? '–' : time(seenAt)],
    ['Layer', layer ? `${saysLayer(layer)} in ${plural(layer.files, 'file')}` : '–'],
    ...(leftFiles > 0
      ? [
          [
            'Files',
            `the last update left ${plural(leftFiles, 'file')} as the machine had them: netimage layers show ${called(machine)}`,
          ],
        ]
      : []),
    ...(layerProblem === undefined ? [] : [['Files', layerProblem]]),
  ]
  return el(
    'dl',
    {},
    rows.map(([name, ...value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))),
  )
}

export function bootTable({ machine }, boots, current) {
  if (boots.length === 0) return []
  return dataTable(
    'The last boots',
    ['Started', 'Up after', 'Last step', 'Trouble'],
    boots.map((boot) => {
      const { started, step, trouble = '–' } = boot
      const isCurrent = started === current?.started
      const link = el(
        'a',
        { href: machineHash(machine, 'boots', started), 'aria-current': isCurrent && 'true' },
        time(started),
      )
      return [link, saysLength(boot), stepName(step), trouble]
    }),
  )
}

export function eventList(events) {
  if (events.length === 0) return []
  return el(
    'details',
    { 'data-key': 'events' },
    el('summary', {}, `${plural(events.length, 'event')} of this boot`),
    el(
      'ol',
      { class: 'log' },
      events.map(({ at, event }) =>
        el('li', {}, time(at), el('span', { class: 'says' }, saysEvent(event))),
      ),
    ),
  )
}

function saysEvent(event) {
  if (typeof event !== 'object' || event === null) return String(event)
  const { kind, step, ...more } = event
  const rest = Object.entries(more).map(
    ([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`,
  )
  return [`${kind} ${step}`, ...rest].join(', ')
}

export function generationTable({ generations }, { images }) {
  if (generations.length === 0) return []
  return dataTable(
    'Generations',
    ['Number', 'Verdict', 'Image', 'Made', 'Reason'],
    generations
      .toReversed()
      .map(({ number, verdict, image, madeAt, published, toplevel, reason = '–' }) => [
        String(number),
        verdict,
        published === undefined ? imageSaid(images, image) : toplevel,
        time(madeAt),
        reason,
      ]),
  )
}

export function attemptTable({ attempts }) {
  if (attempts.length === 0) return []
  return dataTable(
    'The last attempts',
    ['Number', 'Generation', 'Started', 'Outcome', 'Details'],
    attempts
      .slice(-mostAttempts)
      .toReversed()
      .map(({ number, generation, startedAt, outcome, reason, step, trouble }) => [
        String(number),
        String(generation),
        time(startedAt),
        outcome,
        reason ?? ([step, trouble].filter(Boolean).join(' ') || '–'),
      ]),
  )
}

function dataTable(caption, head, rows) {
  return el(
    'table',
    { class: 'cards data', role: 'table' },
    el('caption', {}, caption),
    el(
      'thead',
      { role: 'rowgroup' },
      el(
        'tr',
        { role: 'row' },
        head.map((name) => el('th', { role: 'columnheader', scope: 'col' }, name)),
      ),
    ),
    el(
      'tbody',
      { role: 'rowgroup' },
      rows.map((cells) =>
        el(
          'tr',
          { role: 'row' },
          cells.map((cell, at) => el('td', { role: 'cell', 'data-label': head[at] }, cell)),
        ),
      ),
    ),
  )
}

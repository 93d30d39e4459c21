/** The roll-outs of the groups: how far they are, and what a person can do. */
import { byId, el, replace, svg, time } from './dom.js'
import { called, hashOf, imageSaid, machineHash, plural } from './text.js'

/** In the order in which people want to read them, as in `site status`. */
const stands = [
  ...['good', 'bad', 'lost', 'booting', 'asked', 'assigned', 'pending'],
  ...['waiting', 'held', 'refused', 'other', 'moved', 'broken'],
]

export function createRollouts(data) {
  const section = byId('rollouts')
  const title = byId('rollouts-title')
  const body = byId('rollouts-body')
  let wanted

  function show() {
    title.textContent = wanted === undefined ? 'Roll-outs' : 'Roll-out'
    const all = [...data.groups.values()]
    const shown = wanted === undefined ? all : all.filter(({ group }) => group === wanted)
    replace(
      body,
      data.brokenGroups.map(({ message, code, hint }) =>
        el('p', { class: 'warning' }, `${message} [${code}] `, hint ?? ''),
      ),
      shown.length > 0
        ? shown.map((group) => groupArticle(data, group, wanted !== undefined))
        : el('p', {}, wanted === undefined ? noRollouts : `There is no roll-out of ${wanted}.`),
      ...(wanted === undefined
        ? []
        : [el('p', {}, el('a', { href: '#/rollouts' }, 'All roll-outs'))]),
    )
  }

  return {
    section,
    title: () => (wanted === undefined ? 'Roll-outs' : `Roll-out of ${wanted}`),
    show([group]) {
      wanted = group
      show()
    },
    changed({ groups, machines, others }) {
      if (groups === 'all' || groups.size > 0 || machines === 'all' || others) show()
    },
  }
}

const noRollouts = 'No roll-outs yet. netimage site apply begins one.'

function groupArticle(data, rollout, isOpen) {
  const { group, rollout: number, image = '', state, reason, says, whatNext, startedAt } = rollout
  return el(
    'article',
    { class: 'card', 'data-key': `group ${group}` },
    el(
      'h2',
      {},
      el('a', { href: hashOf('rollouts', group) }, `Group ${group}`),
      ' ',
      el('span', { class: `badge ${state}` }, state),
    ),
    el(
      'p',
      {},
      `Roll-out ${number} of image ${imageSaid(data.images, image)} is ${state}`,
      reason === undefined ? '.' : `: ${reason}`,
    ),
    el('p', {}, says),
    ...(whatNext.length === 0
      ? []
      : [
          el('p', { class: 'label' }, 'What you can do next:'),
          el(
            'ul',
            {},
            whatNext.map((text) => el('li', {}, text)),
          ),
        ]),
    el(
      'ol',
      { class: 'waves' },
      rollout.machinesOfWaves.map((machines, at) => waveItem(data, rollout, machines, at, isOpen)),
    ),
    el('p', { class: 'quiet' }, 'Begun at ', time(startedAt), '.'),
  )
}

function waveItem(data, { group, wave, machines: standing }, machines, at, isOpen) {
  const standOf = (machine) => (Object.hasOwn(standing, machine) ? standing[machine] : 'pending')
  const counts = new Map()
  for (const machine of machines) {
    const stand = standOf(machine)
    counts.set(stand, (counts.get(stand) ?? 0) + 1)
  }
  const present = stands.filter((stand) => counts.has(stand))
  const says = present.map((stand) => `${counts.get(stand)} ${stand}`).join(', ')
  const isCurrent = at + 1 === wave
  return el(
    'li',
    { 'aria-current': isCurrent && 'step' },
    el('span', { class: 'label' }, `Wave ${at + 1}`),
    ` (${plural(machines.length, 'machine')}): ${says}`,
    bar(
      present.map((stand) => [stand, counts.get(stand)]),
      machines.length,
    ),
    el(
      'details',
      { 'data-key': `wave ${group} ${at}`, open: isOpen },
      el('summary', {}, `Machines of wave ${at + 1}`),
      el(
        'ul',
        { class: 'columns' },
        machines.map((machine) =>
          el(
            'li',
            {},
            el(
              'a',
              { href: machineHash(machine) },
              called(data.machines.get(machine) ?? { machine }),
            ),
            ` ${standOf(machine)}`,
          ),
        ),
      ),
    ),
  )
}

/** The same as the text beside it, so nobody needs to hear it again. */
function bar(parts, total) {
  let from = 0
  const rectangles = parts.map(([stand, count]) => {
    const x = from
    from += (count / total) * 100
    return svg('rect', {
      class: `stand ${stand}`,
      x: `${x}%`,
      y: '0',
      width: `${(count / total) * 100}%`,
      height: '12',
    })
  })
  return svg(
    'svg',
    { class: 'bar', 'aria-hidden': 'true', focusable: 'false', height: '12' },
    rectangles,
  )
}

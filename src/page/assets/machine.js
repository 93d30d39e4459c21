/** One machine: its boots to scale, its generations and its attempts. */
import { againMs, Problem } from './data.js'
import { byId, el, replace, setText, time } from './dom.js'
import {
  alarmList,
  attemptTable,
  bootTable,
  eventList,
  facts,
  generationTable,
} from './machine-parts.js'
import { kindOf, reachedAt, stepName } from './state.js'
import { called, encode, formatLength, plural } from './text.js'
import { drawTimeline, fillTable, partsFrom, partsOf } from './timeline.js'

export function createMachine({ data, get, announce }) {
  const section = byId('machine')
  const title = byId('machine-title')
  const body = byId('machine-body')
  const figure = el('figure', { class: 'chart' })
  const table = el('table', { class: 'small' })
  const now = el('span')
  /** What is shown. `started`: of which boot, or undefined for the newest. */
  let wanted = { machine: undefined, started: undefined }
  let shown
  let asked = 0

  async function read() {
    const own = ++asked
    const { machine, started } = wanted
    const path = `/api/machines/${encode(machine)}`
    try {
      const [found, { boots, events }, one] = await Promise.all([
        get(path),
        get(`${path}/boots?number=20`),
        started === undefined ? undefined : get(`${path}/boots/${encode(started)}`),
      ])
      if (own !== asked) return
      const before = shown
      shown = {
        machine: found,
        boots: withNewest(boots, found.boot),
        ...one,
        events: one?.events ?? events,
      }
      say(before)
      draw()
    } catch (error) {
      if (own !== asked) return
      setTimeout(() => own === asked && !section.hidden && read(), againMs)
      // It is gone from the site, or the network is: what was there stays, and the page says that it is old.
      const problem = error instanceof Problem ? error.problem : undefined
      if (shown && !problem) return
      shown = undefined
      const { message = 'it could not be read', hint = '' } = problem ?? {}
      replace(body, el('p', { class: 'warning' }, `${message}. ${hint}`))
    }
  }

  function say(before) {
    const { machine } = shown
    setText(title, called(machine))
    document.title = `${title.textContent} – netimage`
    const step = machine.boot?.step
    if (before && before.machine.machine === machine.machine && step !== before.machine.boot?.step)
      announce(`${called(machine)}: ${stepName(step)}`)
  }

  /** The boot that is shown, the one before it, and what is usual. */
  function rowsOf() {
    const { machine, boots, boot = boots[0] } = shown
    const usual = data.groups.get(machine.group)?.usualBoot
    const at = boots.findIndex(({ started }) => started === boot?.started)
    const before = at === -1 ? undefined : boots.slice(at + 1).find(hasTimes)
    return [
      ...(boot && hasTimes(boot)
        ? [
            {
              name: at === 0 ? 'This boot' : 'That boot',
              boot: partsOf(boot, endOf(boot, at === 0)),
            },
          ]
        : []),
      ...(before ? [{ name: 'The one before', boot: partsOf(before, before.lastSign) }] : []),
      ...(usual
        ? [{ name: `Usual in ${machine.group}`, boot: partsFrom(usual.steps), boots: usual.boots }]
        : []),
    ]
  }

  function endOf(boot, isNewest) {
    return isNewest && !boot.isFromBefore && kindOf(shown.machine) === 'booting'
      ? data.now()
      : boot.lastSign
  }

  function drawBoots() {
    const rows = rowsOf()
    drawTimeline(figure, rows)
    fillTable(table, rows)
    return rows
  }

  function draw() {
    const { machine, boots, events = [], boot = boots[0] } = shown
    const usual = data.groups.get(machine.group)?.usualBoot
    replace(
      body,
      alarmList(machine),
      facts(machine, data, now),
      el('h2', {}, 'Boots'),
      ...(boot && hasTimes(boot)
        ? [
            el(
              'p',
              {},
              'The boot of ',
              time(boot.started),
              usual
                ? `. What is usual are the medians of ${plural(usual.boots, 'boot')} of the group.`
                : '.',
            ),
            figure,
            el('div', { class: 'scroll' }, table),
          ]
        : [el('p', {}, 'No boot was seen from its start.')]),
      bootTable(machine, boots, boot),
      eventList(events),
      generationTable(machine, data),
      attemptTable(machine),
      el(
        'p',
        {},
        el(
          'a',
          { href: `#/log?machine=${encode(machine.machine)}` },
          `The log of ${called(machine)}`,
        ),
      ),
    )
    drawBoots()
    tick()
  }

  function tick() {
    if (!shown) return
    const { boot } = shown.machine
    const at = reachedAt(boot)
    if (at === undefined) return setText(now, '')
    if (boot.step === 'registered') return replace(now, ', since ', time(at))
    setText(now, `, ${stepName(boot.step)} for ${formatLength(data.now() - at)}`)
    if (kindOf(shown.machine) === 'booting') drawBoots()
  }

  new ResizeObserver(() => {
    if (shown && figure.isConnected) drawTimeline(figure, rowsOf())
  }).observe(section)

  return {
    section,
    title: () => (shown ? called(shown.machine) : wanted.machine),
    show([machine, part, started]) {
      if (machine !== wanted.machine) {
        shown = undefined
        setText(title, machine)
        replace(body, el('p', {}, 'Reading…'))
      }
      wanted = { machine, started: part === 'boots' ? started : undefined }
      void read()
    },
    changed({ machines, groups }) {
      const { machine, group } = shown?.machine ?? { machine: wanted.machine }
      if (machines === 'all' || machines.has(machine)) void read()
      else if (shown && (groups === 'all' || groups.has(group))) draw()
    },
    tick() {
      if (shown?.machine.boot?.step !== 'registered') tick()
    },
  }
}

/** The record is written a little later than a boot is seen. */
function withNewest(boots, boot) {
  if (!boot) return boots
  return [boot, ...boots.filter(({ started }) => started !== boot.started)]
}

function hasTimes({ started, steps }) {
  return Object.values(steps).some((at) => at > started) || steps.registered === undefined
}

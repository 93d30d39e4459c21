/** Boots as bars, one below the other, all drawn to the same scale; and the same as a table. */
import { el, replace, svg } from './dom.js'
import { stepName, steps } from './state.js'
import { formatLength } from './text.js'

const [rowHeight, barTop, barHeight, axisHeight] = [52, 20, 24, 24]
const letterWidth = 7

/**
 * What the machine did from each step until the next one that it reached.
 *
 * @param until the end of a boot that is not up, since 1970
 * @returns lengths in milliseconds from the start of the boot
 */
export function partsOf({ started, steps: times }, until) {
  const from = Object.fromEntries(Object.entries(times).map(([step, at]) => [step, at - started]))
  return partsFrom(from, until - started)
}

/** @param times milliseconds from the start of the boot to each step */
export function partsFrom(times, until = 0) {
  const { registered } = times
  const reached = steps
    .filter((step) => step !== 'registered' && times[step] !== undefined)
    .map((step) => ({ step, from: Math.max(0, times[step]) }))
    .filter(({ from }) => registered === undefined || from <= registered)
    .sort((one, other) => one.from - other.from)
  const last = reached.at(-1)
  const end = registered ?? Math.max(until, last?.from ?? 0)
  const parts = reached.map((part, at) => ({ ...part, to: reached[at + 1]?.from ?? end }))
  return { parts, end, isUp: registered !== undefined }
}

/** @param rows `{ name, boot: { parts, end, isUp } }` */
export function drawTimeline(figure, rows) {
  const width = Math.max(240, figure.clientWidth || 640)
  const longest = Math.max(1000, ...rows.map(({ boot }) => boot.end))
  const height = rows.length * rowHeight + axisHeight
  const x = (at) => (at / longest) * (width - 2) + 1
  const says = rows.map(({ name, boot }) => `${name}: ${saysEnd(boot)}`).join('; ')
  const label = `Boots to scale. ${says}. The table below has each step.`
  figure.replaceChildren(
    svg(
      'svg',
      {
        role: 'img',
        'aria-label': label,
        width: String(width),
        height: String(height),
        class: 'timeline',
      },
      axis(longest, x, rows.length * rowHeight),
      rows.map((row, at) => bootRow(row, at * rowHeight, x)),
    ),
  )
}

function bootRow({ name, boot }, top, x) {
  return svg(
    'g',
    {},
    svg('text', { x: '1', y: String(top + 14), class: 'name' }, `${name}: ${saysEnd(boot)}`),
    boot.parts.map(({ step, from, to }, at) => {
      const isOpen = !boot.isUp && at === boot.parts.length - 1
      const wide = Math.max(1, x(to) - x(from))
      const length = formatLength(to - from)
      return svg(
        'g',
        {},
        svg('title', {}, `${stepName(step)}: ${length}`),
        svg('rect', {
          class: `part ${step}${isOpen ? ' open' : ''}`,
          ...{ x: String(x(from)), y: String(top + barTop) },
          ...{ width: String(wide), height: String(barHeight) },
        }),
        partText([`${stepName(step)} ${length}`, length], wide, x(from), top),
      )
    }),
  )
}

/** The longest text that has room. */
function partText(texts, wide, left, top) {
  const fitting = texts.find((text) => text.length * letterWidth + 8 <= wide)
  if (fitting === undefined) return []
  return svg(
    'text',
    { x: String(left + 5), y: String(top + barTop + 16), class: 'inside' },
    fitting,
  )
}

function axis(longest, x, top) {
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 86_400]
    .map((seconds) => seconds * 1000)
    .find((each) => x(each) - x(0) >= 60)
  if (step === undefined) return []
  const marks = Array.from({ length: Math.floor(longest / step) + 1 }, (_, at) => at * step)
  return marks.map((at) =>
    svg(
      'g',
      { class: 'axis' },
      svg('line', { x1: String(x(at)), x2: String(x(at)), y1: '0', y2: String(top) }),
      x(longest) - x(at) < 30 && at > 0
        ? []
        : svg(
            'text',
            { x: String(x(at)), y: String(top + 16) },
            at === 0 ? '0' : formatLength(at).replace('.0', '').replace(' 0 s', ''),
          ),
    ),
  )
}

function saysEnd({ end, isUp, parts }) {
  if (isUp) return `up in ${formatLength(end)}`
  const last = parts.at(-1)
  return last ? `${stepName(last.step)} for ${formatLength(last.to - last.from)}` : 'not seen'
}

/** For those who cannot see the bars, and for exact figures. */
export function fillTable(table, rows) {
  const present = steps.filter((step) =>
    rows.some(({ boot }) => boot.parts.some((part) => part.step === step)),
  )
  const lengthIn = ({ parts }, step) => {
    const part = parts.find((each) => each.step === step)
    return part ? formatLength(part.to - part.from) : '–'
  }
  replace(
    table,
    el('caption', {}, 'How long each step took'),
    el(
      'thead',
      {},
      el(
        'tr',
        {},
        el('th', { scope: 'col' }, 'Step'),
        rows.map(({ name }) => el('th', { scope: 'col' }, name)),
      ),
    ),
    el(
      'tbody',
      {},
      present.map((step) =>
        el(
          'tr',
          {},
          el(
            'th',
            { scope: 'row' },
            el('span', { class: `dot ${step}`, 'aria-hidden': 'true' }),
            stepName(step),
          ),
          rows.map(({ boot }) => el('td', {}, lengthIn(boot, step))),
        ),
      ),
      el(
        'tr',
        {},
        el('th', { scope: 'row' }, 'All'),
        rows.map(({ boot }) => el('td', {}, saysEnd(boot))),
      ),
    ),
  )
}

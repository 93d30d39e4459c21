/** The log of the site: who did what, and what the server decided. */
import { againMs } from './data.js'
import { byId, el, keyedList, replace, time } from './dom.js'
import { called, machineHash } from './text.js'

const [fewRows, mostRows] = [50, 500]

export function createLog({ data, get, onError }) {
  const section = byId('log')
  const about = byId('log-about')
  const more = byId('log-more')
  const list = keyedList(
    byId('log-rows'),
    ({ number }) => number,
    (row) => ({ element: rowItem(row), update() {} }),
  )
  let machine
  let rows = []
  let most = fewRows
  /** Counts the questions, so that a late answer to an older one is left out. */
  let asked = 0

  async function read(after) {
    const own = ++asked
    const query = new URLSearchParams({ number: String(most) })
    if (machine !== undefined) query.set('machine', machine)
    if (after !== undefined) query.set('after', String(after))
    try {
      const found = await get(`/api/log?${query}`)
      if (own !== asked) return
      const newest = found.rows.toReversed()
      // If there were more new rows than were asked for, the list does not go on with those that it has.
      const isWhole = after === undefined || newest.length === most
      rows = isWhole ? newest : [...newest, ...rows].slice(0, mostRows)
      more.hidden = most === mostRows || rows.length < fewRows
      list.show(rows)
      if (rows.length === 0) replace(about, 'Nothing yet.')
      else showAbout()
    } catch (error) {
      if (own !== asked) return
      onError(error)
      setTimeout(() => own === asked && !section.hidden && read(), againMs)
    }
  }

  function showAbout() {
    if (machine === undefined) return replace(about, 'The newest first.')
    const name = called(data.machines.get(machine) ?? { machine })
    const one = el('a', { href: machineHash(machine) }, name)
    replace(about, 'Only about ', one, '. ', el('a', { href: '#/log' }, 'All of the log'))
  }

  more.addEventListener('click', () => {
    most = mostRows
    void read()
  })

  return {
    section,
    title: () => 'Log',
    show(_, query) {
      const wanted = query.get('machine') ?? undefined
      if (wanted !== machine) {
        rows = []
        list.show(rows)
      }
      machine = wanted
      most = fewRows
      showAbout()
      void read()
    },
    changed({ log }) {
      const last = rows[0]?.number
      if (log === 'all') void read()
      else if (log > (last ?? 0)) void read(last)
    },
  }
}

function rowItem(row) {
  if ('broken' in row)
    return el('li', { class: 'warning' }, `Row ${row.number} is broken: ${row.broken}`)
  const { at, machine, name, by, says } = row
  const shown = called({ machine, name })
  return el(
    'li',
    {},
    time(at),
    el('span', { class: 'who' }, by),
    el(
      'span',
      { class: 'says' },
      ...(machine === undefined ? [] : [el('a', { href: machineHash(machine) }, shown), ': ']),
      says,
    ),
  )
}

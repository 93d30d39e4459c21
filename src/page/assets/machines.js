/** The table of all machines. */
import { byId, el, keyedList, replace, setAttribute, setText, time } from './dom.js'
import {
  kindOf,
  reachedAt,
  saysGeneration,
  saysLayer,
  saysLength,
  saysState,
  stateNames,
  stepName,
} from './state.js'
import { called, formatLength, formatTime, imageSaid, machineHash, plural } from './text.js'

/** @param go sets the part of the address after `?` */
export function createMachines(data, go) {
  const section = byId('machines')
  const form = byId('filter')
  const count = byId('machines-count')
  const more = byId('machines-more')
  const body = byId('machines-rows')
  /** @type {NodeListOf<HTMLInputElement | HTMLSelectElement>} */
  const fields = form.querySelectorAll('input, select')
  const [text, group, state] = fields
  const rows = keyedList(
    body,
    ({ machine }) => machine,
    () => createRow(data),
  )
  replace(
    state,
    el('option', { value: '' }, 'all'),
    el('option', { value: 'alarms' }, 'has alarms'),
    Object.entries(stateNames).map(([value, name]) => el('option', { value }, name)),
    el('option', { value: 'held' }, 'held'),
  )
  let groupNames

  function showGroups() {
    const names = [
      ...new Set([...data.machines.values()].flatMap(({ group }) => (group ? [group] : []))),
    ].sort(compareText)
    const wanted = group.value
    if (names.join('\n') === groupNames) return
    groupNames = names.join('\n')
    replace(
      group,
      el('option', { value: '' }, 'all'),
      names.map((name) => el('option', { value: name }, name)),
    )
    choose(group, wanted)
  }

  function filter() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean)
    const counts = { shown: 0, alarms: 0 }
    for (const row of rows.all()) {
      const { item } = row
      const isMatch =
        words.every((word) => row.words().includes(word)) &&
        (group.value === '' || item.group === group.value) &&
        isInState(item, state.value)
      if (row.element.hidden === isMatch) row.element.hidden = !isMatch
      if (isMatch) counts.shown++
      if (isInState(item, 'alarms')) counts.alarms++
    }
    const total = data.machines.size
    const isAll = counts.shown === total
    const shown = isAll
      ? plural(total, 'machine')
      : `${counts.shown} of ${plural(total, 'machine')}`
    const alarms = counts.alarms === 0 ? '' : `; ${counts.alarms} with alarms`
    setText(count, total === 0 ? 'No machines yet.' : `${shown}${alarms}`)
  }

  function showMore() {
    replace(
      more,
      data.broken.map(({ message, code, hint }) =>
        el('p', { class: 'warning' }, `${message} [${code}] `, hint ?? ''),
      ),
      ...(data.others.length === 0
        ? []
        : [
            el('h2', {}, 'Machines that are not in the site'),
            el(
              'ul',
              { class: 'plain' },
              data.others.map((boot) => otherItem(boot)),
            ),
          ]),
    )
  }

  function show() {
    const sorted = [...data.machines.values()].sort(compare)
    rows.show(sorted)
    showGroups()
    filter()
    showMore()
  }

  form.addEventListener('input', () => {
    const set = [text, group, state].filter(({ value }) => value !== '')
    go(new URLSearchParams(set.map(({ name, value }) => [name, value])))
    filter()
  })
  form.addEventListener('submit', (event) => event.preventDefault())

  return {
    section,
    title: () => 'Machines',
    show(_, query) {
      show()
      text.value = query.get('text') ?? ''
      choose(group, query.get('group') ?? '')
      choose(state, query.get('state') ?? '')
      filter()
    },
    changed: show,
    tick() {
      for (const { tick, element } of rows.all()) if (!element.hidden) tick()
    },
  }
}

/** A link may name a group that is gone: then nothing matches, and the person sees why. */
function choose(select, value) {
  const isThere = [...select.options].some((option) => option.value === value)
  if (!isThere) select.append(el('option', { value }, value))
  select.value = value
}

function isInState(machine, wanted) {
  if (wanted === '') return true
  if (wanted === 'held') return machine.held !== undefined
  if (wanted === 'alarms') return machine.alarms.length > 0
  return kindOf(machine) === wanted
}

const { compare: compareText } = new Intl.Collator('en', { numeric: true })

function compare(one, other) {
  return compareText(called(one), called(other))
}

function otherItem(boot) {
  const { machine, address = 'no address' } = boot
  const at = reachedAt(boot) ?? boot.started
  return el('li', {}, `${machine}, ${address}: ${stepName(boot.step)} since `, time(at))
}

function createRow(data) {
  const link = el('a')
  const about = el('small')
  const badge = el('span')
  const since = el('small')
  const [runs, runsImage] = [el('span'), el('small')]
  const [next, nextImage] = [el('span'), el('small')]
  const [length, started, trouble] = [el('span'), el('small'), el('small')]
  const cell = (label, ...children) => el('td', { role: 'cell', 'data-label': label }, ...children)
  const group = cell('Group')
  const layer = cell('Layer')
  const alarms = cell('Alarms')
  const element = el(
    'tr',
    { role: 'row' },
    el('th', { role: 'rowheader', scope: 'row' }, link, about),
    group,
    cell('Step', badge, since),
    cell('Runs', runs, runsImage),
    cell('Boots next', next, nextImage),
    cell('Last boot', length, started, trouble),
    layer,
    alarms,
  )
  let item
  let words

  function tick() {
    const at = reachedAt(item.boot)
    if (at === undefined) return setText(since, '')
    const { step } = item.boot
    if (step === 'registered') return setText(since, `since ${formatTime(at)}`)
    setText(since, `${stepName(step)} for ${formatLength(data.now() - at)}`)
  }

  return {
    element,
    tick: () => item.boot?.step !== 'registered' && tick(),
    words: () => (words ??= wordsOf(item)),
    update(now) {
      item = now
      words = undefined
      const { machine, name, held, last, boot } = item
      const address = boot?.address
      setText(link, called(item))
      setAttribute(link, 'href', machineHash(machine))
      const parts = [name === undefined ? undefined : machine, address, held && 'held']
      setText(about, parts.filter(Boolean).join(' · '))
      setText(group, item.group ?? '–')
      setText(badge, saysState(item))
      setAttribute(badge, 'class', `badge ${kindOf(item)}`)
      setText(runs, last ? saysGeneration(last.generation) : '–')
      setAttribute(runs, 'class', last?.generation.verdict === 'bad' ? 'bad' : undefined)
      setText(runsImage, last ? imageSaid(data.images, last.generation.image) : '')
      setText(next, item.next ? saysGeneration(item.next) : 'image of the server')
      const isSame = item.next?.number === last?.generation.number
      setText(nextImage, item.next && !isSame ? imageSaid(data.images, item.next.image) : '')
      setText(length, saysLength(boot))
      setText(started, boot ? formatTime(boot.started) : '')
      setText(trouble, boot?.trouble ?? '')
      setText(layer, saysLayer(item.layer))
      setText(alarms, item.alarms.length === 0 ? '–' : item.alarms.join('. '))
      setAttribute(alarms, 'class', item.alarms.length > 0 ? 'warning' : undefined)
      tick()
    },
  }
}

function wordsOf(item) {
  const { machine, name = '', group = '', boot, last } = item
  const texts = [machine, name, group, boot?.address ?? '', saysState(item), boot?.step ?? '']
  const more = [last?.generation.image ?? '', boot?.trouble ?? '', ...item.alarms]
  return [...texts, ...more].join('\n').toLowerCase()
}

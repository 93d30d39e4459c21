/** The status page of netimage: it shows what `/api` tells, and never changes anything. */
import { createAnnouncer } from './announcer.js'
import { createData } from './data.js'
import { byId, el, replace, setText } from './dom.js'
import { createLog } from './log.js'
import { createMachine } from './machine.js'
import { createMachines } from './machines.js'
import { createRollouts } from './rollouts.js'
import { formatLength, formatTime, visible } from './text.js'

const connectionText = byId('connection')
const problemBox = byId('problem')
const announcer = createAnnouncer(byId('announcer'))
const source = createData({ onChange: changed, onConnection: showConnection })
const { data } = source
const get = (path) => source.get(path)

const views = {
  machines: createMachines(data, setQuery),
  machine: createMachine({ data, get, announce: announcer.say }),
  rollouts: createRollouts(data),
  log: createLog({ data, get, onError: ({ problem }) => showProblem(problem) }),
}
let current
let isRead = false

/** `#/machines/dc:a6:32:01:02:03?text=pi` */
function readHash() {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?')
  const [collection = '', ...names] = path.split('/').filter(Boolean).map(decode)
  const isOne = collection === 'machines' && names.length > 0
  const { machines, machine, ...others } = views
  const listed = Object.hasOwn(others, collection) ? others[collection] : machines
  const view = isOne ? machine : listed
  return { view, names, query: new URLSearchParams(query) }
}

function decode(part) {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

function setQuery(query) {
  const text = query.toString()
  history.replaceState(null, '', `#/machines${text === '' ? '' : `?${text}`}`)
}

function navigate(isByPerson) {
  const { view, names, query } = readHash()
  const isOther = view !== current
  current = view
  for (const each of Object.values(views)) each.section.hidden = each !== view
  view.show(names, query)
  document.title = view === views.machines ? 'netimage' : `${visible(view.title())} – netimage`
  for (const link of document.querySelectorAll('nav a')) {
    const isHere =
      link.getAttribute('href') === (view === views.machine ? '#/machines' : `#/${view.section.id}`)
    if (isHere) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  if (!isByPerson) return
  if (isOther) scrollTo(0, 0)
  view.section.querySelector('h1')?.focus({ preventScroll: !isOther })
}

function changed(what) {
  if (isRead) announcer.tell(data)
  else announcer.learn(data)
  isRead = true
  current.changed(what)
}

let connection
let told

function showConnection(now) {
  connection = now
  showProblem(now.problem)
  document.body.classList.toggle('stale', now.state === 'stale')
  connectionText.dataset.state = now.state
  const what = `${now.state} ${now.problem?.code ?? ''} ${now.goodAt === undefined}`
  if (what === told) return
  told = what
  setText(connectionText, saysConnection(now))
}

function saysConnection({ state, goodAt, problem }) {
  if (state === 'live') return 'Live'
  const why = problem ? 'Old data' : 'No connection'
  return goodAt === undefined ? why : `${why}: this is from ${formatTime(goodAt)}`
}

function showProblem(problem) {
  if (!problem) return problemBox.hasChildNodes() ? replace(problemBox) : undefined
  const { code, message, hint = '' } = problem
  const text = `The server says: ${message} [${code}] ${hint}`
  if (problemBox.textContent !== text) replace(problemBox, el('p', { class: 'warning' }, text))
}

/** Its age is a title, so that it is not read aloud each second. */
function tick() {
  if (connection?.state === 'stale' && connection.goodAt !== undefined) {
    connectionText.title = `${formatLength(Date.now() - connection.goodAt)} old`
  } else connectionText.removeAttribute('title')
  if (!document.hidden) current.tick?.()
}

// The address says what is shown, and must stay.
byId('skip').addEventListener('click', (event) => {
  event.preventDefault()
  byId('main').focus()
})
addEventListener('hashchange', () => navigate(true))
navigate(false)
source.start()
setInterval(tick, 1000)

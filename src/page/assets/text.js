/** How amounts, times and names are shown: as the commands do in src/commands/format.ts. */

const controls = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

/** Puts a question mark in place of each character that controls the direction of the text or is not text. */
export function visible(text) {
  return String(text).replaceAll(controls, '?')
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

export function formatBytes(bytes) {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`
}

/** @param milliseconds a length of time */
export function formatLength(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  const minutes = Math.floor(whole / 60)
  if (minutes < 60) return `${minutes} min ${whole % 60} s`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} days`
}

/** In the time of the browser. A time of the same day is shown without its date. @param at since 1970 */
export function formatTime(at, now = Date.now()) {
  const [time, today] = [localTime(at), localTime(now)]
  return time.slice(0, 10) === today.slice(0, 10) ? time.slice(11) : time
}

function localTime(at) {
  const date = new Date(at)
  if (Number.isNaN(date.getTime())) return 'unknown'
  const local = new Date(at - date.getTimezoneOffset() * 60_000)
  return local.toISOString().slice(0, 19).replace('T', ' ')
}

export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** As people know the machine. */
export function called({ machine, name }) {
  return name ?? machine
}

export function machineHash(machine, ...more) {
  return hashOf('machines', machine, ...more)
}

export function hashOf(...parts) {
  return `#/${parts.map(encode).join('/')}`
}

/** Half of a surrogate pair, which JSON may have, cannot be part of an address. */
export function encode(part) {
  return encodeURIComponent(String(part).toWellFormed())
}

/** Enough digits of an id to tell the images of a site apart. */
export function imageSaid(images, id) {
  const image = images.get(id)
  const short = String(id).slice(0, 12)
  return image ? `${image.name} ${image.label ?? ''} (${short})`.replace('  ', ' ') : short
}

/**
 * Elements, and lists of them that keep the focus. All text is text: it never becomes markup.
 *
 * No library such as lit-html does this. Its templates are markup, and it would have to be copied into the package,
 * because browsers load these files as they are.
 */
import { formatTime, visible } from './text.js'

const svgName = 'http://www.w3.org/2000/svg'

/** An element of index.html. @param {string} id */
export function byId(id) {
  const element = document.getElementById(id)
  if (!element) throw new Error(`index.html has no element ${id}`)
  return element
}

/** @param attributes an attribute that is undefined or false is left out */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(svgName, tag), attributes, children)
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value)
  element.append(...children.flat().map(asNode))
  return element
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(visible(child))
}

export function setAttribute(element, name, value) {
  const text = value === true ? '' : value
  if (value === undefined || value === false) element.removeAttribute(name)
  else if (element.getAttribute(name) !== text) element.setAttribute(name, visible(text))
}

/** Touches the element only if the text is another one. */
export function setText(element, text) {
  const shown = visible(text)
  if (element.textContent !== shown) element.textContent = shown
}

/** @param at milliseconds since 1970 */
export function time(at, shown = formatTime(at)) {
  const date = new Date(at)
  const isTime = !Number.isNaN(date.getTime())
  return el('time', isTime ? { datetime: date.toISOString() } : {}, shown)
}

/** Replaces the children. What had the focus has it again, and what was open is open: both by `data-key`. */
export function replace(parent, ...children) {
  const { activeElement } = document
  const key = parent.contains(activeElement) ? focusKey(activeElement) : undefined
  const opened = new Map(
    [...parent.querySelectorAll('details[data-key]')].map(({ dataset, open }) => [
      dataset.key,
      open,
    ]),
  )
  parent.replaceChildren(...children.flat().map(asNode))
  for (const details of parent.querySelectorAll('details[data-key]')) {
    details.open = opened.get(details.dataset.key) ?? details.open
  }
  if (key === undefined) return
  for (const element of parent.querySelectorAll('a, button, summary, [tabindex]')) {
    if (focusKey(element) === key) return element.focus({ preventScroll: true })
  }
}

function focusKey(element) {
  const place = element.closest('[data-key]')?.dataset.key ?? ''
  return `${place} ${element.tagName} ${element.getAttribute('href') ?? element.id}`
}

/**
 * A list whose elements stay the same while their items change.
 *
 * @param make gives an element, and `update`, which is called with each new item
 */
export function keyedList(parent, keyOf, make) {
  const known = new Map()
  return {
    of: (key) => known.get(key),
    all: () => known.values(),
    /** An item that is the same object as before is not looked at. */
    show(items) {
      const keys = new Set(items.map(keyOf))
      for (const [key, { element }] of known) {
        if (keys.has(key)) continue
        element.remove()
        known.delete(key)
      }
      const { activeElement } = document
      let next = parent.firstElementChild
      for (const item of items) {
        const key = keyOf(item)
        const row = known.get(key) ?? make(item)
        known.set(key, row)
        if (row.item !== item) row.update(item)
        row.item = item
        if (row.element === next) next = next.nextElementSibling
        else parent.insertBefore(row.element, next)
      }
      // An element that moves loses the focus.
      const hadFocus = activeElement instanceof HTMLElement && parent.contains(activeElement)
      if (hadFocus && document.activeElement !== activeElement) {
        activeElement.focus({ preventScroll: true })
      }
    },
  }
}

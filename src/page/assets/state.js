/** What is said of a machine in several places. */
import { formatBytes, formatLength } from './text.js'

/** In their order. */
export const steps = ['dhcp', 'loader', 'kernel', 'initrd', 'mount', 'init', 'registered']

/** What a machine does from this step on, until the next one. */
export const stepNames = {
  dhcp: 'DHCP',
  loader: 'loader',
  kernel: 'kernel',
  initrd: 'initrd',
  mount: 'root mounted',
  init: 'init',
  registered: 'up',
}

export function stepName(step) {
  return Object.hasOwn(stepNames, step) ? stepNames[step] : step
}

const kinds = {
  up: 'up',
  late: 'up',
  settling: 'up',
  booting: 'booting',
  waiting: 'booting',
  unseen: 'unseen',
  failed: 'failed',
  void: 'failed',
}

/** The states by which machines are filtered. */
export const stateNames = {
  up: 'up',
  booting: 'booting',
  failed: 'failed',
  unseen: 'not seen since the server started',
  new: 'has not booted',
}

export function kindOf({ last }) {
  return last === undefined ? 'new' : (kinds[last.state] ?? 'unseen')
}

export function saysState({ last }) {
  return last?.says ?? stateNames.new
}

/** When the step of the boot was reached. Undefined if the machine was up before the server started. */
export function reachedAt(boot) {
  return boot?.steps[boot.step]
}

/** How long the boot took. Undefined if it is not complete, or if its start was not seen. */
export function lengthOf({ started, steps: { registered } }) {
  return registered !== undefined && registered > started ? registered - started : undefined
}

export function saysLength(boot) {
  if (!boot) return '–'
  const length = lengthOf(boot)
  if (length !== undefined) return formatLength(length)
  return boot.steps.registered === undefined ? 'not up' : 'not seen'
}

export function saysLayer(layer) {
  return layer ? formatBytes(layer.bytes) : '–'
}

export function saysGeneration(generation) {
  return `${generation.number} ${generation.verdict}`
}

/**
 * Tells people who use a screen reader what others would notice at once: a roll-out that changes its state, and a
 * new alarm. Other changes are not told.
 */
import { called, visible } from './text.js'

/** So that several changes are one sentence. */
const waitMs = 1500
const mostSaid = 3

/** @param region an element with role `status` */
export function createAnnouncer(region) {
  let rollouts = new Map()
  let alarmed = new Set()
  let waiting = []
  let timer

  function say(text) {
    waiting.push(text)
    timer ??= setTimeout(flush, waitMs)
  }

  function flush() {
    const left = waiting.length - mostSaid
    const said = waiting.slice(0, mostSaid)
    region.textContent = visible(
      [...said, ...(left > 0 ? [`and ${left} more changes`] : [])].join('. '),
    )
    waiting = []
    timer = undefined
  }

  function learn({ groups, machines }) {
    rollouts = new Map(
      [...groups.values()].map((each) => [each.group, `${each.rollout} ${each.state}`]),
    )
    alarmed = new Set(
      [...machines.values()]
        .filter(({ alarms }) => alarms.length > 0)
        .map(({ machine }) => machine),
    )
  }

  return {
    say,
    learn,
    /** Says which roll-outs go otherwise than before, and which machines have alarms now. */
    tell(data) {
      const [before, known] = [rollouts, alarmed]
      learn(data)
      for (const { group, rollout, state, reason } of data.groups.values()) {
        if (before.get(group) === `${rollout} ${state}`) continue
        say(
          `Roll-out ${rollout} of ${group} is ${state}${reason === undefined ? '' : `: ${reason}`}`,
        )
      }
      for (const name of alarmed) {
        const machine = data.machines.get(name)
        if (!known.has(name)) say(`${called(machine)}: ${machine.alarms[0]}`)
      }
    },
  }
}

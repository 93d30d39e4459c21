/** Questions to another process that are not answered yet. */
import { createPlaces } from '../../protocols/places.ts'

/** @typeParam Said what the other process may say as an answer */
export interface Question<Answer, Said> {
  /** The machine that waits for the answer. */
  machine: string
  /** Sends the question with this id; false: it cannot be sent. */
  send: (id: number) => boolean
  /** @throws an error if this is no answer to the question */
  parse: (answer: Said) => Answer
  /** How long to wait for the answer. Default: as long as the other process runs. Milliseconds. */
  withinMs?: number | undefined
}

export interface Questions<Said> {
  /** @returns `ended` if there will be no answer, because the other process has ended or is late */
  ask<Answer>(question: Question<Answer, Said>): Promise<Answer | 'ended'>
  /** @throws what `parse` throws */
  answered(message: { id: number; answer: Said }): void
  /** To be called when the other process has ended. */
  giveUp(): void
}

/** If so many wait, the other process cannot keep up. */
const limits = { most: 1024, mostOfMachine: 64 }

export function createQuestions<Said>(): Questions<Said> {
  const places = createPlaces(limits)
  const waiting = new Map<number, { answered: (answer: Said) => void; giveUp: () => void }>()
  let last = 0
  return {
    async ask<Answer>({ machine, send, parse, withinMs }: Question<Answer, Said>) {
      if (!places.take(machine)) return 'ended'
      const id = ++last
      const { promise, resolve } = Promise.withResolvers<Answer | 'ended'>()
      const giveUp = () => resolve('ended')
      waiting.set(id, { giveUp, answered: (answer) => resolve(parse(answer)) })
      const timer = withinMs === undefined ? undefined : setTimeout(giveUp, withinMs)
      try {
        return send(id) ? await promise : 'ended'
      } finally {
        clearTimeout(timer)
        waiting.delete(id)
        places.free(machine)
      }
    },
    answered({ id, answer }) {
      waiting.get(id)?.answered(answer)
    },
    giveUp() {
      for (const { giveUp } of waiting.values()) giveUp()
    },
  }
}

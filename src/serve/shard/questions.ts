/** Questions to another process that are not answered yet. */
import { createQuota } from '../../protocols/quota.ts'

/** @typeParam Said what the other process may say as an answer */
export interface Question<Asked, Answer, Said> {
  /** The machine that waits for the answer. */
  machine: string
  asked: Asked
  /** @throws an error if this is no answer to the question */
  parse: (answer: Said) => Answer
  /** How long to wait for the answer. Default: until the other process ends. Milliseconds. */
  withinMs?: number | undefined
}

export interface Questions<Asked, Said> {
  /**
   * Asks now, or once there is a process.
   *
   * @returns `no-answer` if the process has ended before, or is late, or if too many wait
   */
  ask<Answer>(question: Question<Asked, Answer, Said>): Promise<Answer | 'no-answer'>
  /** @throws what `parse` throws */
  answered(message: { id: number; answer: Said }): void
  /** To be called if a process can be asked. */
  begin(send: (id: number, asked: Asked) => void): void
  /** To be called if the process has ended. The next one is not asked the same: nobody waits any more. */
  ended(): void
  /** Gives all questions up, also those that come later. */
  close(): void
}

/** If so many wait, the other process cannot keep up. */
const limits = { most: 1024, mostOfKey: 64 }

interface Waiting<Asked, Said> {
  asked: Asked
  answered: (answer: Said) => void
  giveUp: () => void
}

export function createQuestions<Asked, Said>(): Questions<Asked, Said> {
  const quota = createQuota(limits)
  const waiting = new Map<number, Waiting<Asked, Said>>()
  let last = 0
  let send: ((id: number, asked: Asked) => void) | undefined
  let isClosed = false

  function ended(): void {
    send = undefined
    for (const { giveUp } of waiting.values()) giveUp()
    waiting.clear()
  }

  return {
    async ask<Answer>({ machine, asked, parse, withinMs }: Question<Asked, Answer, Said>) {
      if (isClosed || !quota.take(machine)) return 'no-answer'
      const id = ++last
      const { promise, resolve } = Promise.withResolvers<Answer | 'no-answer'>()
      const giveUp = () => resolve('no-answer')
      waiting.set(id, { asked, giveUp, answered: (answer) => resolve(parse(answer)) })
      const timer = withinMs === undefined ? undefined : setTimeout(giveUp, withinMs)
      send?.(id, asked)
      try {
        return await promise
      } finally {
        clearTimeout(timer)
        waiting.delete(id)
        quota.free(machine)
      }
    },
    answered({ id, answer }) {
      waiting.get(id)?.answered(answer)
    },
    begin(sendNow) {
      send = sendNow
      for (const [id, { asked }] of waiting) send(id, asked)
    },
    ended,
    close() {
      isClosed = true
      ended()
    },
  }
}

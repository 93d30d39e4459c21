/** Questions of one kind to another process that are not answered yet. */
export interface Questions<Answer> {
  /**
   * @param send sends the question with this id; false: it cannot be sent
   * @param withinMs how long to wait for the answer; default: as long as the other process runs
   * @returns `ended` if there will be no answer, because the other process has ended or is late
   */
  ask(send: (id: number) => boolean, withinMs?: number): Promise<Answer | 'ended'>
  answered(message: { id: number; answer: Answer }): void
  /** To be called when the other process has ended. */
  giveUp(): void
}

/** If so many wait, the other process cannot keep up. */
const maxWaiting = 256

export function createQuestions<Answer>(): Questions<Answer> {
  const waiting = new Map<number, (answer: Answer | 'ended') => void>()
  let last = 0
  return {
    async ask(send, withinMs) {
      const id = ++last
      const { promise, resolve } = Promise.withResolvers<Answer | 'ended'>()
      waiting.set(id, resolve)
      const timer =
        withinMs === undefined ? undefined : setTimeout(() => resolve('ended'), withinMs)
      try {
        if (waiting.size > maxWaiting || !send(id)) return 'ended'
        return await promise
      } finally {
        clearTimeout(timer)
        waiting.delete(id)
      }
    },
    answered({ id, answer }) {
      waiting.get(id)?.(answer)
      waiting.delete(id)
    },
    giveUp() {
      const given = [...waiting.values()]
      waiting.clear()
      for (const resolve of given) resolve('ended')
    },
  }
}

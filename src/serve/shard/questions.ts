/** Questions of one kind to another process that are not answered yet. */
export interface Questions<Answer> {
  /**
   * @param send sends the question with this id; false: it cannot be sent
   * @returns `ended` if there will be no answer, because the other process has ended
   */
  ask(send: (id: number) => boolean): Promise<Answer | 'ended'>
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
    ask(send) {
      const id = ++last
      return new Promise((resolve) => {
        waiting.set(id, resolve)
        if (waiting.size <= maxWaiting && send(id)) return
        waiting.delete(id)
        resolve('ended')
      })
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

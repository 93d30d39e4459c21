/** The work that keeps the layers of machines busy: they are closed, prepared, bound or opened. */

export interface LayerWork {
  /** The work at the layer of the machine; undefined: there is none. */
  of(name: string): Promise<void> | undefined
  /**
   * @param stop ends the work if the machine begins another attempt. Default: the work goes on
   * @returns the work
   */
  begin(name: string, work: Promise<void>, stop?: AbortController): Promise<void>
  /** To be called if the machine asks for its root meanwhile. It is told to ask again. */
  wait(name: string): 'busy'
  /** To be called if the machine begins another attempt. */
  stop(name: string): void
  /** The machines whose layers are busy. */
  names(): Iterable<string>
}

/** @param onWait called when a machine begins to wait, and when it need not wait any more */
export function createLayerWork(
  onWait: (name: string, kind: 'waits' | 'waited') => void,
): LayerWork {
  const busy = new Map<string, { work: Promise<void>; stop: AbortController | undefined }>()
  const waiting = new Set<string>()
  return {
    of: (name) => busy.get(name)?.work,
    begin(name, begun, stop) {
      const work = begun.finally(() => {
        if (busy.get(name)?.work !== work) return
        busy.delete(name)
        if (waiting.delete(name)) onWait(name, 'waited')
      })
      busy.set(name, { work, stop })
      return work
    },
    wait(name) {
      if (busy.has(name) && !waiting.has(name)) {
        waiting.add(name)
        onWait(name, 'waits')
      }
      return 'busy'
    },
    stop: (name) => busy.get(name)?.stop?.abort(),
    names: () => busy.keys(),
  }
}

/** Long tasks report their progress here. The commands decide how to show it. */

export interface Amounts {
  paths?: number
  bytes?: number
}

export interface Task {
  /** Reports the amounts that are done, of the total that `begin` was given. */
  update(done: Amounts & { downloaded?: number }): void
  /** @param summary the result, as a sentence without a full stop */
  end(summary: string): void
}

export interface Progress {
  /** @param label a word for the task, such as `unpacking` */
  begin(label: string, total?: Amounts): Task
  warn(message: string): void
}

/** `1 path`, `2 paths` */
export function plural(count: number, singular: string, several = `${singular}s`): string {
  return `${count} ${count === 1 ? singular : several}`
}

export const silentProgress: Progress = {
  begin: () => ({ update: () => undefined, end: () => undefined }),
  warn: () => undefined,
}

/** How long work tells what it is doing; the commands decide how that is shown. */

export interface Amounts {
  paths?: number
  bytes?: number
}

export interface Task {
  /** What is done by now, of the totals that the task began with. */
  update(done: Amounts & { downloaded?: number }): void
  /** @param summary what came of it, as a sentence without a full stop */
  end(summary: string): void
}

export interface Progress {
  /** @param label what is being done, as in `unpacking` */
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

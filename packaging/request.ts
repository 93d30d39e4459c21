import type { Effort } from './archive.ts'

/** Where and how the files of a release are made. */
export type Request = {
  /** A directory for what is needed on the way. */
  work: string
  output: string
  /** In seconds: the time of all files. */
  epoch: number
  effort: Effort
}

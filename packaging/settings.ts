/** Where and how the files of a release are made. */
export type ReleaseSettings = {
  /** A directory for what is needed on the way. */
  work: string
  output: string
  /** In seconds: the time of all files. */
  epoch: number
  /** How hard xz tries for the Debian packages, from 0 to 9: with 6, it needs more than a minute for each. */
  xzLevel: number
}

/** The compressions in which binary caches keep NARs. */

export const compressions = ['none', 'xz', 'zstd', 'bzip2', 'br', 'gzip'] as const

export type Compression = (typeof compressions)[number]

export function isCompression(text: string): text is Compression {
  return compressions.some((compression) => compression === text)
}

/** Told how many bytes of memory a decoder is about to hold, before it does. */
export type HoldMemory = (bytes: number) => void

/** The compressions in which binary caches keep NARs. */

export const compressions = ['none', 'xz', 'zstd', 'bzip2', 'br', 'gzip'] as const

export type Compression = (typeof compressions)[number]

export function isCompression(text: string): text is Compression {
  return compressions.some((compression) => compression === text)
}

/** Is called before a decoder allocates this many bytes of memory. */
export type HoldMemory = (bytes: number) => void

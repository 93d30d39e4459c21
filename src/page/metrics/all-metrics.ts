/** All metrics of a server, as Prometheus reads them. */
import { statfs } from 'node:fs/promises'

import { fileSystemError } from '../../errors.ts'
import { nextPiece } from '../../roots/steps.ts'
import type { ReadImages } from '../images.ts'
import type { View } from '../view.ts'
import type { Counts } from './counts.ts'
import { siteMetrics, type Disk } from './site-metrics.ts'
import { metricText } from './text.ts'

export interface MetricsSettings {
  state: string
  view: Pick<View, 'look'>
  images: ReadImages
  counts: Pick<Counts, 'metrics'>
}

/** @throws `NetimageError` */
export async function allMetrics(settings: MetricsSettings): Promise<string> {
  const { state, view, images, counts } = settings
  const [seen, shownImages] = [await view.look(), await images()]
  const disk = await diskOf(state)
  const { groups } = seen.site
  const texts: string[] = []
  for (const metric of [...siteMetrics(seen, shownImages, disk), ...counts.metrics(groups)]) {
    // There may be a sample for each machine.
    await nextPiece()
    texts.push(metricText(metric))
  }
  return texts.join('')
}

/** @throws `NetimageError` `file-system` */
async function diskOf(state: string): Promise<Disk> {
  try {
    const { bsize, blocks, bavail } = await statfs(state)
    return { size: blocks * bsize, available: bavail * bsize }
  } catch (error) {
    throw fileSystemError(`could not look at ${state}`, error)
  }
}

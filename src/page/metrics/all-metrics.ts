/** All metrics of a server, as Prometheus reads them. */
import { statfs } from 'node:fs/promises'

import { fileSystemError, NetimageError } from '../../errors.ts'
import { nextPiece } from '../../roots/steps.ts'
import type { ReadImages } from '../images.ts'
import type { View } from '../view.ts'
import type { Counts } from './counts.ts'
import { siteMetrics, type Disk } from './site-metrics.ts'
import { metricText, type Metric } from './text.ts'

export interface MetricsSettings {
  state: string
  view: Pick<View, 'look'>
  images: ReadImages
  counts: Pick<Counts, 'metrics'>
}

/** If the site cannot be read, there is only what the server has counted itself. */
export async function allMetrics(settings: MetricsSettings): Promise<string> {
  const found = await readSite(settings)
  const readable: Metric = {
    ...{ name: 'netimage_site_readable', type: 'gauge' },
    help: 'Whether the server can read its site. If not, there are no metrics of machines.',
    samples: [{ value: Number(found !== undefined) }],
  }
  const texts: string[] = []
  for (const metric of [
    readable,
    ...(found?.metrics ?? []),
    ...settings.counts.metrics(found?.groups),
  ]) {
    // There may be a sample for each machine.
    await nextPiece()
    texts.push(metricText(metric))
  }
  return texts.join('')
}

/** @returns undefined if the site cannot be read. The data for programs say why */
async function readSite({ state, view, images }: MetricsSettings) {
  try {
    const seen = await view.look()
    return {
      groups: seen.site.groups,
      metrics: siteMetrics(seen, await images(), await diskOf(state)),
    }
  } catch (error) {
    if (error instanceof NetimageError) return undefined
    throw error
  }
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

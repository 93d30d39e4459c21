// An image with the numbers that a new layer would give.

import { outside, type ImageIndex } from '../../../src/roots/image-index.ts'
import { countNodes } from '../../../src/roots/image-table.ts'
import { createLayerImage, type LayerImage } from '../../../src/roots/layer-image.ts'
import { orderInSteps } from '../../../src/roots/number-order.ts'
import { doNow } from '../../../src/roots/steps.ts'

export function numbered(index: ImageIndex): LayerImage {
  const files = Float64Array.from({ length: countNodes(index.tableOf(outside)) + 1 }, (_, at) => at)
  const paths = Uint32Array.from(index.storePaths, (_, at) => at + 1)
  return createLayerImage(index, {
    files: doNow(orderInSteps(files)),
    paths: doNow(orderInSteps(paths)),
  })
}

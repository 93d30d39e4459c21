// Opens a layer at once, and not in pieces as the server does.

import { openLayerInSteps, type Layer } from '../../../src/roots/layer.ts'
import {
  openMachineLayerInSteps,
  type MachineLayer,
  type MachineLayerRequest,
} from '../../../src/roots/machine-layer.ts'
import { doNow } from '../../../src/roots/steps.ts'

/** As `openLayerInSteps`. */
export function openLayer(...options: Parameters<typeof openLayerInSteps>): Layer {
  return doNow(openLayerInSteps(...options))
}

/** As `openMachineLayer`, which does not wait for the disk. */
export function openMachineLayerNow(request: MachineLayerRequest): MachineLayer {
  return doNow(openMachineLayerInSteps(request))
}

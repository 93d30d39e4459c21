/**
 * Opens the layer of a machine for a boot, also if the disk has no room to bind the layer.
 *
 * On a full disk a machine gets its root all the same, so that it can remove files. If the layer cannot be
 * bound for the boot, it stays as it was in the boot before, if that was with the same images. It then
 * stays so for all of the boot: nothing may change below a machine that runs. But a server that starts
 * again does not know it any more, and binds the layer if there is room.
 */
import { asNetimageError, explained, type NetimageError } from '../errors.ts'
import { remember } from '../remember.ts'
import { BoundOtherwise } from '../roots/bind.ts'
import {
  openMachineLayer,
  type MachineLayer,
  type MachineLayerRequest,
} from '../roots/machine-layer.ts'
import { UnpreparedCopies } from '../roots/prepare-copies.ts'
import type { UnreadyLayer } from '../roots/unready-layer.ts'

export interface Boots {
  /** The identifier of a boot that could not be recorded. */
  unrecorded: string | undefined
  /** That of the last recorded boot. */
  recorded: string
}

export interface BootLayers {
  /** As `openMachineLayer`. */
  open(
    boots: Boots,
    request: Omit<MachineLayerRequest, 'boot' | 'isBound'>,
  ): MachineLayer | UnreadyLayer
  /** The layer could not be made ready for the boot. */
  fails(machine: string, boots: Boots, error: unknown): void
  /** Whether the open layer of the machine is bound for the boot. */
  isBound(machine: string): boolean
}

/** @param onError called if a machine gets its layer as it was in the boot before */
export function createBootLayers(onError: (error: NetimageError) => void): BootLayers {
  /** The boots for which the layers of machines could not be bound. */
  const unbound = new Map<string, string>()

  function tell(machine: string, error: NetimageError): void {
    const problem = `${machine} boots with its layer as it was in the boot before: ${error.message}`
    const hint =
      'Make room on that disk, and restart the machine. Until then, what it changed in the store paths of its images is not undone.'
    onError(explained(error, problem, {}, hint))
  }

  return {
    isBound: (machine) => !unbound.has(machine),
    fails(machine, { unrecorded, recorded }, error) {
      if (isForRoom(error)) remember(unbound, machine, unrecorded ?? recorded)
    },
    open({ unrecorded, recorded }, request) {
      const { machine } = request
      const boot = unrecorded ?? recorded
      const asBound = unbound.get(machine) === boot ? openAsBound(request) : undefined
      if (asBound) return asBound
      unbound.delete(machine)
      let failure: NetimageError | undefined
      try {
        const layer = openMachineLayer({ ...request, boot })
        // If the boot could not be recorded, there is no room for copies either.
        const isForCopies = unrecorded !== undefined && layer instanceof UnpreparedCopies
        if (!isForCopies) return layer
        layer.giveUp()
      } catch (error) {
        if (!isForRoom(error)) throw error
        failure = asNetimageError(error)
      }
      const layer = openAsBound(request)
      if (!layer && unrecorded === undefined) throw failure
      if (!layer) return openMachineLayer({ ...request, boot: recorded })
      if (failure) tell(machine, failure)
      remember(unbound, machine, boot)
      return layer
    },
  }
}

/** @returns undefined if the layer was last bound to other images, or is to be reset */
function openAsBound(
  request: Omit<MachineLayerRequest, 'boot'>,
): MachineLayer | UnreadyLayer | undefined {
  if (request.reset) return undefined
  try {
    return openMachineLayer({ ...request, isBound: true })
  } catch (error) {
    if (error instanceof BoundOtherwise) return undefined
    throw error
  }
}

function isForRoom(error: unknown): boolean {
  return asNetimageError(error).code === 'disk-full'
}

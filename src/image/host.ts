/** Reads the options of an image from the NixOS module of a flake's host. */
import type { BootSettings } from '../boot/request.ts'
import { NetimageError } from '../errors.ts'
import { buildFlakeHost, parseFlakeHost } from '../nixos/flake.ts'
import type { StorePath } from '../nix/store-path.ts'
import type { Progress } from '../progress.ts'
import { withoutUndefined } from '../without-undefined.ts'
import type { BuildRequest } from './request.ts'
import { requestOf, type ConfiguredRequest } from './config.ts'
import { parseConfig } from './options.ts'

export interface Host {
  toplevel: StorePath
  /** The options of the host's module; undefined if the host has no module. */
  settings: ConfiguredRequest | undefined
}

/**
 * Builds the system of a flake's host.
 *
 * @param roots Nix's garbage collector keeps the system until these roots are disposed of
 * @returns undefined if `name` names something else
 */
export async function readHost(
  name: string,
  roots: DisposableStack,
  signal: AbortSignal,
  progress: Progress,
): Promise<Host | undefined> {
  const host = parseFlakeHost(name)
  if (!host) return undefined
  const { toplevel, settings } = await buildFlakeHost(host, roots, signal)
  if (settings === undefined) {
    progress.warn(withoutModule(name))
    return { toplevel, settings }
  }
  const source = `netImage of ${name}`
  const config = parseConfig(parseSettings(settings, source), source)
  return { toplevel, settings: requestOf(config, source) }
}

/** The request with the options of the host's module, except where it has options of its own. */
export async function withHostSettings(
  request: BuildRequest,
  roots: DisposableStack,
  signal: AbortSignal,
  progress: Progress,
): Promise<BuildRequest> {
  const host = await readHost(request.system, roots, signal, progress)
  if (!host?.settings) return { ...request, system: host?.toplevel ?? request.system }
  const { toplevel, settings: own } = host
  return {
    ...own,
    ...request,
    system: toplevel,
    options: { ...own.options, ...request.options },
    bootSettings: {
      ...own.bootSettings,
      ...withoutUndefined<BootSettings>(request.bootSettings ?? {}),
    },
    silenced: [...(own.silenced ?? []), ...(request.silenced ?? [])],
  }
}

function parseSettings(text: string, source: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new NetimageError('bad-config', `${source} is not JSON`, { cause: error })
  }
}

/** A host needs no module, but then the person must configure all that the module adds. */
function withoutModule(name: string): string {
  return `the configuration of ${name} has no netimage module, so netimage changes nothing in its root, initrd and first boot. These lines add the module, which sets them from one option:
    inputs.netimage.url = "github:netimage/netimage";
    modules = [ inputs.netimage.nixosModules.default { netImage.nfsRoot = "192.168.0.108:/srv/nixos,v3"; } ];`
}

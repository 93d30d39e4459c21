/** What netimage's NixOS module says of an image, where the system is a host of a flake. */
import { NetimageError } from '../errors.ts'
import { buildFlakeHost, parseFlakeHost } from '../nixos/flake.ts'
import type { Progress } from '../progress.ts'
import type { BuildRequest } from './request.ts'
import { requestOf } from './config.ts'
import { parseConfig } from './options.ts'

/**
 * Builds the host's system. Its module's options become those of the request, where the request has
 * none of its own.
 */
export async function withHostSettings(
  request: BuildRequest,
  signal: AbortSignal,
  progress: Progress,
): Promise<BuildRequest> {
  const host = parseFlakeHost(request.system)
  if (!host) return request
  const { toplevel, settings } = await buildFlakeHost(host, signal)
  if (settings === undefined) {
    progress.warn(withoutModule(request.system))
    return { ...request, system: toplevel }
  }
  const source = `netImage of ${request.system}`
  const own = await requestOf(parseConfig(parseSettings(settings, source), source), source)
  const given = Object.entries(request.bootSettings ?? {})
  return {
    ...own,
    ...request,
    system: toplevel,
    options: { ...own.options, ...request.options },
    bootSettings: {
      ...own.bootSettings,
      ...Object.fromEntries(given.filter(([, value]) => value !== undefined)),
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

/** It works without, but then everything that the module adds is for the person to think of. */
function withoutModule(name: string): string {
  return `the configuration of ${name} has no netimage module: its root, its initrd and its first boot are taken as they are. With these lines they follow from one option:
    inputs.netimage.url = "github:netimage/netimage";
    modules = [ inputs.netimage.nixosModules.default { netImage.nfsRoot = "192.168.0.108:/srv/nixos,v3"; } ];`
}

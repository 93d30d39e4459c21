// Evaluates and builds systems with netimage's NixOS module, with real Nix on a fixture of nixpkgs.

import { dirname, join, resolve } from 'node:path'
import { createNixWorld, type NixWorld } from '../support/real-nix.ts'
import { repository } from '../support/netimage.ts'

export const fixture = join(import.meta.dirname, 'fixture')

/** A Nix world whose builds use this machine's programs in place of nixpkgs's. */
export async function createFixtureWorld(directory: string): Promise<NixWorld> {
  return await createNixWorld(directory, {
    // Some machines do not have all of these directories.
    sandboxPaths: ['/bin', '/lib', '/lib64?', '/usr', nodeDirectory],
  })
}

export const nodeDirectory = resolve(dirname(process.execPath), '..')

export type SystemRequest = {
  /** A module, in Nix. */
  configuration?: string
  system?: string
  /** Default: the platform of the system. */
  buildSystem?: string
  release?: string
  hasScripts?: boolean
  /** Whether the system has netimage’s module. */
  hasModule?: boolean
  nodeVersion?: string
}

/** The Nix expression of a system that the fixture's system.nix makes. */
export function systemExpression({
  configuration = '{ }',
  system = 'x86_64-linux',
  buildSystem = system,
  release = '26.05',
  hasScripts = true,
  hasModule = true,
  nodeVersion = process.versions.node,
}: SystemRequest = {}): string {
  return `import ${fixture}/system.nix {
    netimage = ${repository}/nix;
    node = "${nodeDirectory}";
    nodeVersion = "${nodeVersion}";
    system = "${system}";
    buildSystem = "${buildSystem}";
    release = "${release}";
    hasScripts = ${hasScripts};
    configuration = ${configuration};
    ${hasModule ? '' : `modules = [ ${configuration} ];`}
  }`
}

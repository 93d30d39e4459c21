/** Reads the options of a net image from a config file. */
import { resolve } from 'node:path'

import { knownRules } from '../check/silence.ts'
import { findConfigFile, readConfigFile, type ConfigKind } from '../config-file.ts'
import type { BuildRequest } from './request.ts'
import { parseConfig, type NetImageConfig } from './options.ts'
import { withoutUndefined } from '../without-undefined.ts'

const kind: ConfigKind = {
  called: 'config file',
  stem: 'netimage.config',
  example: 'export default defineNetImage({…})',
  flag: '--config',
  danger: 'A config runs commands as you.',
}

/** @param file named by the person; else the config file of the current directory, if any */
export async function loadConfig(file: string | undefined): Promise<NetImageConfig> {
  const found = file ?? findConfigFile(kind)
  if (found === undefined) return {}
  return parseConfig(await readConfigFile(resolve(found), kind), found)
}

/** The part of a build's request that a config decides. */
export type ConfiguredRequest = Pick<BuildRequest, 'options' | 'boot' | 'bootSettings' | 'silenced'>

/** @param source names the config in errors */
export function requestOf(config: NetImageConfig, source: string): ConfiguredRequest {
  const { boot, silence, ...rest } = config
  const { deviceTree, firmware, uboot, configTxt, ipxe, uefiStub, machines, ...options } = rest
  return withoutUndefined<ConfiguredRequest>({
    options,
    bootSettings: { deviceTree, firmware, uboot, configTxt, ipxe, uefiStub, machines },
    boot,
    silenced: silence && knownRules(silence, source),
  })
}

// Two sites on one computer, and programs that stand for the ssh between them.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { imageIds, openSiteImage } from '../../../../src/site/images/site-image.ts'
import { openSiteToRead } from '../../../../src/site/database.ts'
import { cli, netimage, type Run, type RunSettings } from '../../../support/netimage.ts'
import { describeTree } from '../../../support/trees.ts'

/** Writes a program into a directory that is to be the first one of the PATH. */
export function writeProgram(directory: string, name: string, script: string): string {
  mkdirSync(directory, { recursive: true })
  const file = join(directory, name)
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o755)
  return file
}

/** Runs the command on this computer, as sshd does: with a shell. Drops options and the server. */
export const plainSsh = `
while [ "$1" != -- ]; do shift; done
shift 2
exec sh -c "$*"`

/** A directory with the programs `ssh` and `netimage`. */
export function programs(directory: string, ssh = plainSsh): string {
  writeProgram(directory, 'netimage', `exec "${process.execPath}" "${cli}" "$@"`)
  writeProgram(directory, 'ssh', ssh)
  return directory
}

export interface Push {
  from: string
  to: string
  /** A directory with `ssh` and `netimage`. */
  programs: string
  images?: readonly string[]
  flags?: readonly string[]
  settings?: RunSettings
}

export function pushArguments({ from, to, images = [], flags = [] }: Push): string[] {
  const state = ['--state', from, '--remote-state', to]
  return ['site', 'push', 'ssh://admin@lab2', ...images, ...state, ...flags]
}

export function push(request: Push): Promise<Run> {
  return netimage(pushArguments(request), withPrograms(request))
}

export function withPrograms({ programs: first, settings = {} }: Push): RunSettings {
  const path = `${first}${delimiter}${process.env['PATH'] ?? ''}`
  return { ...settings, env: { ...settings.env, PATH: path } }
}

/** All files of the images of a site, as machines and their firmware see them. */
export async function describeSite(state: string): Promise<string[]> {
  const lines: string[] = []
  for (const id of imageIds(state).toSorted()) {
    const image = await openSiteImage(state, id)
    image.release()
    const { outside, storePaths } = image.rootImage
    lines.push(id, ...describeTree(image.bootTree), ...describeTree(outside))
    for (const { name, at } of storePaths) lines.push(name, ...describeTree(at))
  }
  return lines
}

export function logOf(state: string) {
  const reader = openSiteToRead(state)
  try {
    return reader?.log({}).rows ?? []
  } finally {
    reader?.close()
  }
}

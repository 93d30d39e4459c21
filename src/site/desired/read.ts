/** Reads the file of a site. */
import { dirname, resolve } from 'node:path'
import { inspect } from 'node:util'
import * as v from 'valibot'

import { findConfigFile, readConfigFile, type ConfigKind } from '../../config-file.ts'
import { NetimageError } from '../../errors.ts'
import { isPlainObject } from '../../plain-object.ts'
import type { Desired } from './desired.ts'
import { nearestOf } from './nearest.ts'
import { badSite, type Problem } from './problem.ts'
import { desiredSchema } from './schema.ts'

const kind: ConfigKind = {
  called: 'file of the site',
  stem: 'site',
  example: 'export default {…}',
  flag: '--file',
  danger: 'It says which systems are built as you.',
}

export interface SiteFile {
  /** As the person named it. */
  file: string
  /** Relative paths in the file begin here. */
  directory: string
  desired: Desired
}

/**
 * @param named default: `site.toml` in the current directory
 * @throws `NetimageError` `path-not-found`, `bad-config`, `bad-site`, `file-system`
 */
export async function readSiteFile(named: string | undefined): Promise<SiteFile> {
  // Other programs have a site.js as well, and reading it would run it.
  const file = named ?? findConfigFile(kind, ['.toml'])
  if (file === undefined) {
    throw new NetimageError('path-not-found', `there is no site.toml in ${resolve()}`, {
      details: { file: resolve('site.toml') },
      hint: 'Write one (docs/site.md shows how), or name another file: --file FILE.',
    })
  }
  const path = resolve(file)
  const read = parseDesired(await readConfigFile(path, kind))
  if ('problems' in read) throw badSite(file, read.problems)
  return { file, directory: dirname(path), desired: read.desired }
}

/** @param input from outside, of any form */
export function parseDesired(input: unknown): { desired: Desired } | { problems: Problem[] } {
  const reserved = [...reservedKeys(input)]
  if (reserved.length > 0) return { problems: reserved }
  const result = v.safeParse(desiredSchema, input)
  if (result.success) return { desired: result.output }
  return { problems: result.issues.map(problemOf) }
}

/** Keys that every object of JavaScript has. The schemas would silently leave them out. */
const reservedNames = ['__proto__', 'constructor', 'prototype']

function* reservedKeys(
  input: unknown,
  path: readonly string[] = [],
  seen = new Set<unknown>(),
): Generator<Problem> {
  // A module can export an object that contains itself.
  if (!(isPlainObject(input) || Array.isArray(input)) || seen.has(input)) return
  seen.add(input)
  for (const [key, value] of Object.entries(input)) {
    const here = [...path, key]
    if (reservedNames.includes(key)) {
      const hint = 'Take another name.'
      yield { field: fieldOf(here), message: `${key} cannot be used as a name or a key`, hint }
    }
    yield* reservedKeys(value, here, seen)
  }
}

type Issue = v.InferIssue<typeof desiredSchema> | v.BaseIssue<unknown>

function problemOf(issue: Issue): Problem {
  const keys = (issue.path ?? []).flatMap(({ key }) =>
    typeof key === 'string' || typeof key === 'number' ? [`${key}`] : [],
  )
  const [field, key = ''] = [fieldOf(keys), keys.at(-1)]
  if (issue.type === 'never') {
    const nearest = nearestOf(key, issue.message.split(', '))
    const all = `The keys are ${issue.message}.`
    const hint = nearest === undefined ? all : `Did you mean ${nearest}? ${all}`
    return { field, message: 'there is no such key', hint }
  }
  if (issue.path?.at(-1)?.origin === 'key' && issue.input === undefined) {
    return { field, message: 'it is missing', hint: `Write: ${examples[key] ?? `${key} = …`}` }
  }
  return {
    field,
    message: `it is ${show(issue.input)}`,
    hint: `${issue.message.charAt(0).toUpperCase()}${issue.message.slice(1)}.`,
  }
}

/** As TOML writes the key, except that lists have numbers from 0. */
function fieldOf(path: readonly string[]): string {
  const keys = path.map((key) => (/^[\w-]+$/.test(key) ? key : JSON.stringify(key)))
  return keys.join('.') || 'the file'
}

const examples: Record<string, string> = {
  system: 'system = ".#lab"',
  machines: 'machines = ["pi1", "pi2"]',
  bad: 'halt = { bad = 2 }',
}

/** The number of characters of a wrong value that an error shows. */
const maxShown = 80

function show(value: unknown): string {
  const text = inspect(value, { breakLength: Infinity, depth: 1 })
  return text.length > maxShown ? `${text.slice(0, maxShown)}…` : text
}

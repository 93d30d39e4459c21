/** The files of the page itself: `assets/`. They are few, and stay in memory. */
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'

import { tagOf, type Answer } from './answer.ts'

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
}

const start = '/index.html'

/** @returns the answers by path */
export function readFiles(): ReadonlyMap<string, Answer> {
  const directory = new URL('./assets/', import.meta.url)
  const files = readdirSync(directory).map((name): [string, Answer] => {
    const body = readFileSync(new URL(name, directory))
    const type = types[extname(name)] ?? 'application/octet-stream'
    return [`/${name}`, { status: 200, type, body, tag: tagOf(body) }]
  })
  const all = new Map(files)
  const first = all.get(start)
  return first ? all.set('/', first) : all
}

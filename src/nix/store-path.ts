/**
 * Store paths: `/nix/store/<32 characters of Nix base32>-<name>`.
 *
 * https://nix.dev/manual/nix/latest/protocols/store-path
 */
import { alphabet } from './base32.ts'

export const storeDir = '/nix/store'

declare const storePathBrand: unique symbol

/** A full store path whose syntax was checked. */
export type StorePath = string & { readonly [storePathBrand]: true }

const baseNamePattern = new RegExp(`^[${alphabet}]{32}-[0-9A-Za-z+._?=-]{1,211}$`)

/** As in Nix: the names `.` and `..`, and names that begin with `.-` or `..-`. */
const forbiddenName = /^\.\.?(-|$)/

/** Whether `baseName` has the form `<hash part>-<name>`. */
function isStoreBaseName(baseName: string): boolean {
  return baseNamePattern.test(baseName) && !forbiddenName.test(baseName.slice(33))
}

function isStorePath(text: string): text is StorePath {
  return text.startsWith(`${storeDir}/`) && isStoreBaseName(text.slice(storeDir.length + 1))
}

/** @returns undefined if `text` is not a store path */
export function toStorePath(text: string): StorePath | undefined {
  return isStorePath(text) ? text : undefined
}

/** The store path with this base name. @returns undefined if the base name is not valid */
export function fromBaseName(baseName: string): StorePath | undefined {
  return toStorePath(`${storeDir}/${baseName}`)
}

/** `<hash part>-<name>` */
export function baseNameOf(path: StorePath): string {
  return path.slice(storeDir.length + 1)
}

/** The 32 characters before the name. Binary caches name the narinfo of a path by them. */
export function hashPartOf(path: StorePath): string {
  return path.slice(storeDir.length + 1, storeDir.length + 33)
}

export function nameOf(path: StorePath): string {
  return path.slice(storeDir.length + 34)
}

/** Splits a path into its store path and the rest. @returns undefined outside the store */
export function splitStorePath(path: string): { storePath: StorePath; rest: string } | undefined {
  const [, base = '', rest = ''] = /^\/nix\/store\/([^/]+)(\/.*)?$/s.exec(path) ?? []
  const storePath = fromBaseName(base)
  return storePath && { storePath, rest: rest.replace(/\/+$/, '') }
}

/** Byte order, as in Nix: the order must not depend on the machine's locale. */
export function compareStorePaths(a: StorePath, b: StorePath): number {
  return a < b ? -1 : a > b ? 1 : 0
}

// What a machine sees outside /nix/store after boots with one image after the other: a model of the rules
// in docs/layers.md.

import type { Tree, TreeNode } from './bound-layer.ts'

/** `/path` is a file that the images know by this path, `#7` a file of the machine. */
type Id = string

export interface SeenNode {
  kind: TreeNode['kind']
  mode: number
  uid: number
  text?: string
  /** All names of the file, if it is none that has one name. */
  names?: string[]
}

export type Operation =
  | { do: 'create' | 'mkdir' | 'symlink' | 'write' | 'chmod' | 'chown' | 'remove'; path: string }
  | { do: 'rename' | 'link'; path: string; to: string }

interface Node {
  kind: TreeNode['kind']
  mode: number
  uid: number
  text?: string
}

export interface BindModel {
  /** @returns whether the operation is possible */
  act(operation: Operation): boolean
  bind(next: Tree): void
  see(): Map<string, SeenNode>
}

const root = '/'
const isOfImage = (id: Id) => id.startsWith('/')
const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1)
const aboveOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')))
/** The number by which the images know the path. */
const idOf = (path: string): Id => `/${path}`
const pathOf = (id: Id) => id.slice(1)
const depthOf = (id: Id) => id.split('/').length

export function createBindModel(first: Tree): BindModel {
  let brought = first
  /** Files of the machine, and directories that stay although the image does not have them. */
  const own = new Map<Id, Node>()
  /** What the machine changed in files of the image. */
  const changes = new Map<Id, Partial<Node>>()
  /** Names that the machine gave; undefined: it removed a name of the image. */
  const names = new Map<Id, Map<string, Id | undefined>>()
  let made = 0

  const ofImage = (id: Id) => (isOfImage(id) ? brought.get(pathOf(id)) : undefined)

  function node(id: Id): Node | undefined {
    if (id === root) return { kind: 'directory', mode: 0, uid: 0 }
    const known = own.get(id)
    if (known) return known
    const image = ofImage(id)
    return image && { uid: 0, ...image, ...changes.get(id) }
  }

  function inImage(directory: Id, name: string): Id | undefined {
    if (!isOfImage(directory)) return undefined
    if (directory !== root && ofImage(directory)?.kind !== 'directory') return undefined
    const path = directory === root ? name : `${pathOf(directory)}/${name}`
    return brought.has(path) ? idOf(path) : undefined
  }

  function children(directory: Id): Map<string, Id> {
    const found = new Map<string, Id>()
    for (const path of brought.keys()) {
      const name = nameOf(path)
      const id = inImage(directory, name)
      if (id === idOf(path)) found.set(name, id)
    }
    for (const [name, id] of names.get(directory) ?? []) {
      if (id === undefined) found.delete(name)
      else found.set(name, id)
    }
    return found
  }

  /** All names, the highest first. */
  function walk(): { directory: Id; name: string; id: Id; path: string }[] {
    const found = []
    const pending = [{ id: root, above: '' }]
    for (let at = pending.shift(); at; at = pending.shift()) {
      for (const [name, id] of children(at.id)) {
        const path = `${at.above}${name}`
        found.push({ directory: at.id, name, id, path })
        if (node(id)?.kind === 'directory') pending.push({ id, above: `${path}/` })
      }
    }
    return found
  }

  function put(directory: Id, name: string, id: Id): void {
    const inside = names.get(directory) ?? new Map<string, Id | undefined>()
    names.set(directory, inside)
    if (inImage(directory, name) === id) inside.delete(name)
    else inside.set(name, id)
  }

  function take(directory: Id, name: string): void {
    const inside = names.get(directory) ?? new Map<string, Id | undefined>()
    names.set(directory, inside)
    if (inImage(directory, name) === undefined) inside.delete(name)
    else inside.set(name, undefined)
  }

  /** A file without a name is gone, with all that the machine did to it. */
  function forgetGone(): void {
    const there = new Set([root, ...walk().map(({ id }) => id)])
    for (const map of [own, changes, names]) {
      for (const id of map.keys()) if (!there.has(id)) map.delete(id)
    }
  }

  function find(path: string): Id | undefined {
    let id: Id | undefined = root
    for (const name of path.split('/').filter(Boolean)) {
      if (id !== undefined) id = children(id).get(name)
    }
    return id
  }

  function placeOf(path: string): [Id, string] | undefined {
    const directory = find(aboveOf(path))
    if (directory === undefined || node(directory)?.kind !== 'directory') return undefined
    return [directory, nameOf(path)]
  }

  function change(id: Id, by: Partial<Node>): void {
    const known = own.get(id)
    if (known) own.set(id, { ...known, ...by })
    else changes.set(id, { ...changes.get(id), ...by })
  }

  function act(operation: Operation): boolean {
    const { path } = operation
    const [at, id] = [placeOf(path), find(path)]
    if (!at) return false
    const [directory, name] = at
    if (operation.do === 'create' || operation.do === 'mkdir' || operation.do === 'symlink') {
      if (id !== undefined) return false
      const anew: Id = `#${++made}`
      if (operation.do === 'mkdir') own.set(anew, { kind: 'directory', mode: 0o711, uid: 0 })
      else if (operation.do === 'create')
        own.set(anew, { kind: 'file', mode: 0o640, uid: 0, text: '' })
      else own.set(anew, { kind: 'symlink', mode: 0o777, uid: 0, text: 'own' })
      put(directory, name, anew)
      return true
    }
    const known = id === undefined ? undefined : node(id)
    if (id === undefined || !known) return false
    const isDirectory = known.kind === 'directory'
    switch (operation.do) {
      case 'write':
        if (known.kind !== 'file') return false
        change(id, { text: `own${(known.text ?? '').slice(3)}` })
        break
      case 'chmod':
        if (known.kind === 'symlink') return false
        change(id, { mode: 0o600 })
        break
      case 'chown':
        change(id, { uid: 7 })
        break
      case 'remove':
        if (isDirectory && children(id).size > 0) return false
        take(directory, name)
        break
      case 'link': {
        const to = placeOf(operation.to)
        if (!to || isDirectory || find(operation.to) !== undefined) return false
        put(...to, id)
        break
      }
      case 'rename': {
        const to = placeOf(operation.to)
        const isBelow = operation.to === path || operation.to.startsWith(`${path}/`)
        if (!to || isBelow || find(operation.to) !== undefined) return false
        take(directory, name)
        put(...to, id)
        break
      }
    }
    forgetGone()
    return true
  }

  function bind(next: Tree): void {
    const isGone = (id: Id) =>
      isOfImage(id) && id !== root && next.get(pathOf(id))?.kind !== node(id)?.kind
    const allNames = (id: Id) => walk().filter((each) => each.id === id)
    const isMoved = (id: Id) =>
      allNames(id).some(({ directory, name }) => idOf(pathBelow(directory, name)) !== id)

    /** From now on, the file has nothing to do with the path by which images know it. */
    function becomeOwn(id: Id): void {
      const [known, inside, places] = [node(id), [...children(id)], allNames(id)]
      if (!known) return
      const anew: Id = `#${++made}`
      own.set(anew, known)
      for (const [name, child] of inside) put(anew, name, child)
      for (const { directory, name } of places) put(directory, name, anew)
      for (const [, child] of inside) if (isGone(child)) becomeOwn(child)
      for (const map of [own, changes, names]) map.delete(id)
    }

    const found = () => [...new Set(walk().map(({ id }) => id))].filter(isGone)
    for (const id of found()) {
      if (node(id)?.kind === 'directory' && isMoved(id)) becomeOwn(id)
    }
    // From below: a directory stays if something in it does.
    for (const id of found().sort((a, b) => depthOf(b) - depthOf(a))) {
      const known = node(id)
      const isNamed = [...names.values()].some((inside) => [...inside.values()].includes(id))
      const holds = [...(names.get(id)?.values() ?? [])].some((child) => child !== undefined)
      if (!known || !(own.has(id) || changes.has(id) || isNamed || holds)) continue
      if (known.kind !== 'directory') becomeOwn(id)
      else {
        own.set(id, known)
        const inside = names.get(idOf(aboveOf(pathOf(id)))) ?? new Map<string, Id | undefined>()
        names.set(idOf(aboveOf(pathOf(id))), inside.set(nameOf(pathOf(id)), id))
      }
    }
    // Directories that stayed earlier, and that the machine has moved since then. The highest first,
    // because what is in them has moved as well.
    for (const [id, { kind }] of [...own].sort(([a], [b]) => depthOf(a) - depthOf(b))) {
      if (isOfImage(id) && kind === 'directory' && isMoved(id)) becomeOwn(id)
    }

    brought = next
    for (const [id, known] of own) {
      if (ofImage(id)?.kind !== 'directory') continue
      own.delete(id)
      changes.set(id, known)
    }
    for (const [id, { mode, uid, text }] of changes) {
      const image = ofImage(id)
      const isMode = mode !== undefined && mode !== image?.mode
      const isText = text !== undefined && image?.kind === 'file'
      const left = { ...(isMode && { mode }), ...(uid && { uid }), ...(isText && { text }) }
      if (Object.keys(left).length > 0) changes.set(id, left)
      else changes.delete(id)
    }
    for (const [directory, inside] of names) {
      for (const [name, id] of inside) {
        const image = inImage(directory, name)
        if (id === image || (id === undefined && image === undefined)) inside.delete(name)
      }
    }
    forgetGone()
  }

  return {
    act,
    bind,
    see() {
      const found = new Map<string, SeenNode>()
      const walked = walk()
      for (const { path, id } of walked) {
        const known = node(id)
        if (!known) continue
        const all = walked.filter((each) => each.id === id).map((each) => each.path)
        found.set(path, { ...known, ...(all.length > 1 && { names: all.sort() }) })
      }
      return found
    },
  }
}

function pathBelow(directory: Id, name: string): string {
  return directory === root ? name : `${pathOf(directory)}/${name}`
}

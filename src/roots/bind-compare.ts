/** What two images bring outside the store paths, as a binding compares it: see bind-outside.ts. */
import { NetimageError } from '../errors.ts'
import type { NodeId, NodeKind, Time } from '../protocols/nfs/file-system.ts'
import { escapeBytes } from '../tree-files.ts'
import { keyOf } from './bind-rows.ts'
import type { BindWork } from './bind-work.ts'
import type { BoundFile } from './bound-files.ts'
import type { NodeRow, PlacedEntry } from './layer-rows.ts'
import { rootNode } from './numbers.ts'
import type { Steps } from './steps.ts'

export interface Images extends Pick<BindWork, 'database' | 'now' | 'before'> {
  /** What the image before brought; undefined if this is not known. */
  filesBefore: readonly BoundFile[] | undefined
  /** What the image brings now. */
  files: readonly BoundFile[]
}

/** A name of a node in the image before. */
export interface Name {
  directory: NodeId
  name: Buffer
  path: Buffer
}

export interface ComparedImages {
  before: ReadonlyMap<NodeId, BoundFile>
  after: ReadonlyMap<NodeId, BoundFile>
  /** Of a node. Without knowledge of the image before: all names that images ever gave it. */
  namesBefore: (id: NodeId) => readonly Name[]
  /** The names in a directory. */
  namesBeforeIn: (directory: NodeId) => readonly (Name & { node: NodeId })[]
  /** Whether the image before gives the name to this node. */
  isNameBefore: (entry: PlacedEntry) => boolean
  /** Without knowledge of the image before, the image now stands for it. */
  kindBefore: (id: NodeId) => NodeKind | undefined
  /** The row of a node that is as in the image before. */
  rowBefore: (id: NodeId) => Steps<NodeRow>
  /** Of a symbolic link. @throws `NetimageError` `bad-state` if the image before cannot be had */
  targetBefore: (id: NodeId) => Steps<Buffer>
  /** Whether a row has the kind and the attributes that the image before brought. */
  isAsBefore: (row: NodeRow) => boolean
  /** Whether the image brings something else than before. */
  isOther: (id: NodeId) => boolean
  /** Whether the image and the machine have changed one attribute in two ways. */
  changesSameAttribute: (row: NodeRow) => boolean
  /** What the machine did not change is as in the image. @returns undefined if that is another kind */
  followed: (row: NodeRow) => NodeRow | undefined
  /** The place by which images know a file. */
  placeOf: (id: NodeId) => Steps<Name | undefined>
  /** For people. */
  pathOf: (id: NodeId) => Buffer
  /** The contents of a node are needed, and they are in the image before, which cannot be had. */
  imageMissing: (id: NodeId) => NetimageError
}

const attributes = ['mode', 'uid', 'gid'] as const

/** Changes nothing. To be called in the transaction of the binding. */
export function* compareImages(images: Images): Steps<ComparedImages> {
  const { database, now, filesBefore, files } = images
  const before = yield* byNumber(filesBefore ?? [])
  const after = yield* byNumber(files)
  const names = yield* findNames(filesBefore ?? database.eachFileNumber())
  const inDirectories = yield* byDirectory(names)
  let places: Map<NodeId, Name[]> | undefined

  const namesBefore = (id: NodeId) => names.get(id) ?? []

  function imageMissing(id: NodeId): NetimageError {
    const path = namesBefore(id)[0]?.path ?? Buffer.from(String(id))
    const file = escapeBytes(path)
    return new NetimageError(
      'bad-state',
      `the machine has changed ${file}, whose contents are in the image that it had before, and that image is missing`,
      {
        details: { file },
        hint: 'Put that image back where it was, and boot the machine again. Or remove what the machine wrote: netimage layers reset.',
      },
    )
  }

  return {
    before,
    after,
    namesBefore,
    imageMissing,
    namesBeforeIn: (directory) => inDirectories.get(directory) ?? [],
    isNameBefore: ({ directory, name, node }) =>
      namesBefore(node ?? 0).some((each) => each.directory === directory && each.name.equals(name)),
    kindBefore: (id) => (filesBefore ? before.get(id) : now.node(id))?.kind,
    *rowBefore(id) {
      const file = before.get(id)
      const { mode, uid, gid, kind, modified } = file ?? {
        ...{ mode: 0o755, uid: 0, gid: 0, kind: 'directory' as const },
        modified: { seconds: 0, nanoseconds: 0 },
      }
      const parent = kind === 'directory' ? (namesBefore(id)[0]?.directory ?? rootNode) : 0
      const device = (yield* images.before())?.node(id)?.device ?? { major: 0, minor: 0 }
      return {
        ...{ id, kind, mode, uid, gid, links: 1, device, parent, target: undefined },
        ...{ ownData: false, accessed: modified, modified, changed: modified },
      }
    },
    *targetBefore(id) {
      const known = before.get(id)?.target
      if (known) return known
      const image = yield* images.before()
      const node = image?.node(id)
      if (!image || node?.kind !== 'symlink') throw imageMissing(id)
      return image.readLink(node)
    },
    isAsBefore(row) {
      const file = before.get(row.id)
      if (file?.kind !== row.kind || attributes.some((name) => row[name] !== file[name]))
        return false
      return row.kind === 'directory' || isSameTime(row.modified, file.modified)
    },
    isOther(id) {
      const [one, other] = [before.get(id), after.get(id)]
      return !one || !other || isOtherFile(one, other)
    },
    changesSameAttribute(row) {
      const [one, other] = [before.get(row.id), after.get(row.id)]
      return one?.kind === row.kind && other !== undefined && changesAttributeOf(row, one, other)
    },
    followed(row) {
      const [one, other] = [before.get(row.id), after.get(row.id)]
      if (one?.kind !== row.kind || other?.kind !== row.kind) return undefined
      const followed = { ...row, device: now.node(row.id)?.device ?? row.device }
      for (const name of attributes) {
        if (row[name] === one[name]) followed[name] = other[name]
      }
      for (const name of ['modified', 'accessed'] as const) {
        if (isSameTime(row[name], one.modified)) followed[name] = other.modified
      }
      return followed
    },
    *placeOf(id) {
      places ??= yield* findNames(database.eachFileNumber())
      return places.get(id)?.[0]
    },
    pathOf: (id) =>
      before.get(id)?.path ??
      after.get(id)?.path ??
      namesBefore(id)[0]?.path ??
      Buffer.from(String(id)),
  }
}

/** What of a file counts when two images are compared. */
type Compared = Pick<BoundFile, 'kind' | 'content' | 'target' | (typeof attributes)[number]>

/** Whether two images bring different files. */
export function isOtherFile(one: Compared, other: Compared): boolean {
  if (one.kind !== other.kind || one.content !== other.content) return true
  if (attributes.some((name) => one[name] !== other[name])) return true
  return one.target === undefined ? false : !other.target?.equals(one.target)
}

/** Whether the machine and the image have changed one attribute in two ways. */
export function changesAttributeOf(
  row: Pick<Compared, (typeof attributes)[number]>,
  one: Compared,
  other: Compared,
): boolean {
  return attributes.some(
    (name) => row[name] !== one[name] && other[name] !== one[name] && row[name] !== other[name],
  )
}

function* byNumber(files: readonly BoundFile[]): Steps<Map<NodeId, BoundFile>> {
  const found = new Map<NodeId, BoundFile>()
  for (const file of files) {
    found.set(file.number, file)
    yield
  }
  return found
}

function* findNames(files: Iterable<{ path: Buffer; number: NodeId }>): Steps<Map<NodeId, Name[]>> {
  const numbers = new Map<string, NodeId>([['', rootNode]])
  const below: { path: Buffer; number: NodeId }[] = []
  for (const file of files) {
    yield
    if (file.path.length === 0) continue
    numbers.set(keyOf(file.path), file.number)
    below.push(file)
  }
  const names = new Map<NodeId, Name[]>()
  for (const { path, number } of below) {
    yield
    const end = path.lastIndexOf('/')
    const directory = numbers.get(keyOf(path.subarray(0, end)))
    if (directory === undefined) continue
    add(names, number, { directory, name: path.subarray(end + 1), path })
  }
  return names
}

/** The names in each directory. */
function* byDirectory(
  names: ReadonlyMap<NodeId, readonly Name[]>,
): Steps<Map<NodeId, (Name & { node: NodeId })[]>> {
  const found = new Map<NodeId, (Name & { node: NodeId })[]>()
  for (const [node, ofNode] of names) {
    for (const name of ofNode) add(found, name.directory, { ...name, node })
    yield
  }
  return found
}

function add<T>(all: Map<NodeId, T[]>, key: NodeId, value: T): void {
  const known = all.get(key)
  if (known) known.push(value)
  else all.set(key, [value])
}

function isSameTime(one: Time, other: Time): boolean {
  return one.seconds === other.seconds && one.nanoseconds === other.nanoseconds
}

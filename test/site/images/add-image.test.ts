// An image that is added to a site is the same image there, whatever happens to its source later.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { sitePlaces } from '../../../src/image/site-places.ts'
import { silentProgress } from '../../../src/progress.ts'
import { addImage } from '../../../src/site/images/add-image.ts'
import { removeUnused } from '../../../src/site/images/remove-unused.ts'
import {
  listSiteImages,
  openSiteImage,
  type SiteImage,
} from '../../../src/site/images/site-image.ts'
import { tryLock } from '../../../src/lock.ts'
import { removeTree } from '../../../src/remove-tree.ts'
import { onCloningDisk } from '../../support/cloning-disk.ts'
import { netimageError } from '../../support/errors.ts'
import { mounted, ordinaryUser } from '../../support/namespace.ts'
import { cli } from '../../support/netimage.ts'
import { sha256 } from '../../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'
import {
  buildSystem,
  copyImage,
  pathsOfEach,
  systems,
  writeSystems,
} from './support/made-images.ts'

const run = promisify(execFile)
const freshName = freshNames(temporaryDirectory())
const asRoot = process.geteuid?.() === 0

suite('an image in a site', () => {
  let workspace: Workspace
  let images: { first: string; second: string }

  before(async () => {
    workspace = makeWorkspace('site')
    writeSystems(workspace)
    images = {
      first: await buildSystem(workspace, 'first', workspace.path('out/first')),
      second: await buildSystem(workspace, 'second', workspace.path('out/second')),
    }
  })
  after(() => workspace.remove())

  const copyOf = (image: string) => copyImage(image, freshName())

  async function add(state: string, image: string) {
    const added = await addImage(state, image)
    added.image.release()
    return added
  }

  /** All files of the site's image, and its store paths. */
  function describe({ directory, rootImage }: SiteImage): string[] {
    return [
      ...describeTree(directory),
      ...rootImage.storePaths.flatMap(({ name, at }) => [name, ...describeTree(at)]),
    ]
  }

  /** Names that are there only while somebody adds or removes images. */
  const leftovers = (state: string) =>
    ['images', 'store']
      .flatMap((folder) => fs.readdirSync(join(state, folder)))
      .filter((name) => name.startsWith('.'))

  const storedIn = (state: string) => fs.readdirSync(join(state, 'store')).length

  test('waits for somebody who changes the images for long, and says so', async () => {
    const state = freshName()
    fs.mkdirSync(state)
    const lock = tryLock(sitePlaces(state).lock, 'exclusive') ?? assert.fail()
    const warnings: string[] = []
    const warn = (message: string) => {
      warnings.push(message)
      lock.release()
    }
    const { image } = await addImage(state, images.first, { progress: { ...silentProgress, warn } })
    image.release()
    assert.match(warnings[0] ?? '', /^waiting for another netimage that adds or removes images in /)
  })

  test('has the same files as its source', async () => {
    const state = freshName()
    const { image, isNew, added } = await add(state, images.first)
    assert.deepEqual([isNew, added], [true, pathsOfEach])
    const source = join(images.first, 'net-image')
    const sourceStore = join(source, 'root/nix/store')
    assertSameLines(describeTree(image.bootTree), describeTree(join(source, 'boot')))
    const isOutside = (line: string) => !line.includes('nix/store/')
    assertSameLines(
      describeTree(image.rootImage.outside),
      describeTree(join(source, 'root')).filter(isOutside),
    )
    const name = fs.statSync(join(image.rootImage.outside, 'etc/name'))
    assert.equal(name.ino, fs.statSync(join(image.rootImage.outside, 'etc/sub/same')).ino)
    const names = image.rootImage.storePaths.map((path) => path.name)
    assert.deepEqual(names, fs.readdirSync(sourceStore).toSorted())
    for (const { name, at } of image.rootImage.storePaths) {
      assertSameLines(describeTree(at), describeTree(join(sourceStore, name)))
    }
    const manifest = fs.readFileSync(join(images.first, 'nix-support/net-image.json'))
    assert.equal(image.id, sha256(manifest).toString('hex'))
    assert.deepEqual(leftovers(state), [])
  })

  test('shares its store paths with all images of the site', async () => {
    const state = freshName()
    await add(state, images.first)
    const { added, isNew } = await add(state, images.second)
    assert.deepEqual([added, isNew], [1, true])
    const again = await add(state, images.first)
    assert.deepEqual([again.added, again.isNew], [0, false])
    assert.equal(storedIn(state), pathsOfEach + 1)
    const listed = listSiteImages(state, assert.fail)
    assert.deepEqual(
      listed.map(({ label, name, storePaths }) => [label, name, storePaths]),
      [
        ['first', 'root', pathsOfEach],
        ['second', 'root', pathsOfEach],
      ],
    )
  })

  test('does not change if its source is written to, built anew or removed', async () => {
    const [state, source] = [freshName(), freshName()]
    await buildSystem(workspace, 'first', source)
    const { image } = await add(state, source)
    const before = describe(image)
    for (const file of ['root/etc/name', 'boot/boot.ipxe']) {
      fs.appendFileSync(join(source, 'net-image', file), 'more')
    }
    await buildSystem(workspace, 'second', source, true)
    assertSameLines(describe(image), before)
    removeTree(source)
    assertSameLines(describe(image), before)
    const held = await openSiteImage(state, image.id)
    held.release()
    assert.equal(held.manifest.system.label, 'first')
  })

  test('gets no link to a file that another user can write to', { skip: !asRoot }, async () => {
    const [state, source] = [freshName(), copyOf(images.first)]
    const linked = await add(freshName(), copyOf(images.first))
    if (linked.method !== 'hardlink') return
    const store = join(source, 'net-image/root/nix/store')
    const found = linked.image.rootImage.storePaths.find((path) => path.name.includes('content-1'))
    const [{ name, at }, file] = [found ?? assert.fail(), 'text']
    assert.equal(fs.statSync(join(at, file)).nlink, 2)
    const theirs = join(store, name, file)
    const { atimeMs } = fs.statSync(theirs)
    fs.chownSync(theirs, ordinaryUser.uid, ordinaryUser.gid)
    fs.utimesSync(theirs, atimeMs / 1000, 1)
    const { image } = await add(state, source)
    const ours = image.rootImage.storePaths.find((path) => path.name === name)?.at ?? ''
    assert.notEqual(fs.statSync(join(ours, file)).ino, fs.statSync(theirs).ino)
    assert.equal(fs.statSync(join(ours, file)).uid, process.geteuid?.())
  })

  const damage: Record<string, (source: string, store: string) => string | undefined> = {
    'a store path with other contents'(_, store) {
      const path = join(
        store,
        fs.readdirSync(store).find((name) => name.includes('content-3')) ?? '',
      )
      const file = join(path, 'text')
      fs.chmodSync(file, 0o644)
      fs.writeFileSync(file, 'path 4\n')
      fs.chmodSync(file, 0o444)
      fs.utimesSync(file, 1, 1)
      return undefined
    },
    'a missing store path'(_, store) {
      removeTree(join(store, fs.readdirSync(store)[0] ?? ''))
      return undefined
    },
    'a FIFO in a store path'(_, store) {
      const path = join(
        store,
        fs.readdirSync(store).find((name) => name.includes('content-3')) ?? '',
      )
      fs.chmodSync(path, 0o755)
      fs.unlinkSync(join(path, 'text'))
      execFileSync('mkfifo', [join(path, 'text')])
      return undefined
    },
    'other contents of a boot file'(source) {
      const file = join(source, 'net-image/boot/boot.ipxe')
      fs.appendFileSync(file, ' ')
      return file
    },
    'a FIFO in the boot tree'(source) {
      const file = join(source, 'net-image/boot/boot.ipxe')
      fs.unlinkSync(file)
      execFileSync('mkfifo', [file])
      return file
    },
    'a link in place of a boot file'(source) {
      const file = join(source, 'net-image/boot/boot.ipxe')
      fs.renameSync(file, `${source}-boot.ipxe`)
      fs.symlinkSync(`${source}-boot.ipxe`, file)
      return file
    },
    'another mode of a file outside the store'(source) {
      const file = join(source, 'net-image/root/etc/name')
      fs.chmodSync(file, 0o755)
      return file
    },
    'a file that the manifest does not list'(source) {
      const file = join(source, 'net-image/root/etc/other')
      fs.writeFileSync(file, '')
      return file
    },
  }
  suite('that is damaged', () => {
    let filled: string
    /** A site with all store paths. */
    before(async () => {
      filled = freshName()
      const { image } = await add(filled, images.first)
      removeTree(image.directory)
    })
    for (const [what, make] of Object.entries(damage)) {
      test(`is refused with ${what}`, async () => {
        const source = copyOf(images.first)
        const file = make(source, join(source, 'net-image/root/nix/store'))
        const state = file === undefined ? freshName() : filled
        const refused = netimageError('image-damaged', { file: file ?? source })
        await assert.rejects(addImage(state, source), refused)
        assert.deepEqual(fs.readdirSync(join(state, 'images')), [])
        assert.deepEqual(leftovers(state), [])
        if (file === undefined) assert.equal(storedIn(state), 0)
      })
    }

    test('can be added from a whole copy', async () => {
      const { added, isNew } = await add(filled, images.first)
      assert.deepEqual([added, isNew], [0, true])
    })
  })

  test('is refused if it is no image', async () => {
    const [state, empty] = [freshName(), freshName()]
    fs.mkdirSync(empty)
    await assert.rejects(addImage(state, empty), netimageError('not-an-image', { file: empty }))
  })

  test('can be added by several at once', async () => {
    const state = freshName()
    const sources = [images.first, images.second, images.first, images.second]
    const all = await Promise.all(sources.map((image) => add(state, image)))
    assert.deepEqual(all.filter(({ isNew }) => isNew).length, 2)
    assert.equal(storedIn(state), pathsOfEach + 1)
    assert.deepEqual(leftovers(state), [])
  })

  test('is removed with the store paths that only it has, if nothing keeps it', async () => {
    const state = freshName()
    const first = await add(state, images.first)
    const second = await add(state, images.second)
    const before = describe(first.image)
    const result = await removeUnused(state, () => new Set([first.image.id]))
    assert.deepEqual(result, {
      ...{ removedImages: [second.image.id], inUse: [], removedStorePaths: 1 },
      ...{ freedBytes: result.freedBytes, mayShareBlocks: result.mayShareBlocks },
    })
    assertSameLines(describe(first.image), before)
    const gone = netimageError('path-not-found', { file: state, expected: second.image.id })
    await assert.rejects(openSiteImage(state, second.image.id), gone)
    const toplevel = second.image.rootImage.storePaths.find(({ name }) =>
      systems.second.toplevel.endsWith(name),
    )
    assert.equal(fs.existsSync(toplevel?.at ?? '/'), false)
    const again = await add(state, images.second)
    assert.deepEqual([again.isNew, again.added], [true, 1])
    const none = await removeUnused(state, () => new Set())
    assert.equal(none.removedStorePaths, pathsOfEach + 1)
    assert.deepEqual([storedIn(state), leftovers(state)], [0, []])
  })

  test('is removed, and the bytes that become free are told as the file system counts them', async () => {
    const disk = workspace.path('disk')
    fs.mkdirSync(disk)
    const script = `
      mount -t tmpfs memory "$1"
      truncate -s 24M "$1/disk"
      mkfs.ext4 -q -m 0 -b 1024 "$1/disk" >&2
      mount -o loop "$1/disk" "$1"
    `
    const [command = '', ...args] = mounted(script, disk)
    const program = join(import.meta.dirname, 'support/freed-program.ts')
    const sources = [images.first, images.second]
    const { stdout } = await run(command, [...args, process.execPath, program, disk, ...sources])
    assert.equal(stdout, 'as expected\n')
  })

  test('is removed with at most so many bytes as are told, if files may be clones', async () => {
    const disk = workspace.path('cloning-disk')
    fs.mkdirSync(disk)
    const [command = '', ...args] = onCloningDisk(disk)
    const image = join(disk, 'state/images', 'a'.repeat(64))
    const script = `
      mkdir -p "$1/nix-support"; : > "$1/nix-support/lock"; echo text > "$1/file"; shift
      exec "$@"
    `
    const gc = [process.execPath, cli, 'site', 'gc', '--quiet', '--state', join(disk, 'state')]
    const { stdout } = await run(command, [...args, 'sh', '-euc', script, 'sh', image, ...gc])
    assert.match(stdout, /^removed 1 image and 0 store paths, freed up to \d+(\.\d)? KiB\n$/)
  })

  test('is not removed while it is in use, even if it comes into use at the last moment', async () => {
    const state = freshName()
    const { image } = await addImage(state, images.first)
    const none = () => new Set<string>()
    const used = await removeUnused(state, none)
    const nothing = { removedStorePaths: 0, freedBytes: 0, mayShareBlocks: false }
    assert.deepEqual(used, { removedImages: [], inUse: [image.id], ...nothing })
    image.release()

    // A machine is given the image when all images are looked at.
    const givenLate = [none(), new Set([image.id])]
    const late = await removeUnused(state, () => givenLate.shift() ?? assert.fail())
    assert.deepEqual(late, { removedImages: [], inUse: [], ...nothing })
    const gone = await removeUnused(state, none)
    assert.deepEqual(gone.removedImages, [image.id])
  })

  test('is not locked while it is looked for images that nothing keeps, if it is kept', async () => {
    const state = freshName()
    const { image } = await add(state, images.first)
    await removeUnused(state, () => {
      const lock = tryLock(join(image.directory, 'nix-support/lock'), 'shared')
      assert.ok(lock, 'the image is locked')
      lock.release()
      return new Set([image.id])
    })
  })

  test('is as its manifest says again after a repair, which waits until no server uses it', async () => {
    const [state, source] = [freshName(), freshName()]
    await buildSystem(workspace, 'first', source)
    const { image } = await add(state, source)
    const other = await addImage(state, images.second)
    // A repair makes the directories of the image anew, with other times.
    const { bootTree, rootImage } = image
    const trees = [bootTree, rootImage.outside, ...rootImage.storePaths.map(({ at }) => at)]
    const describeTrees = () => trees.flatMap((tree) => describeTree(tree))
    const before = describeTrees()
    const changed = rootImage.storePaths.find(({ name }) => name.includes('content-1'))
    const files = [join(changed?.at ?? '', 'text'), join(bootTree, 'boot.ipxe')]
    for (const file of files) {
      // In place, as through a hard link in the source.
      fs.chmodSync(file, 0o644)
      fs.appendFileSync(file, 'CHANGED')
      fs.chmodSync(file, 0o444)
    }
    // A build replaces files that were written to.
    await buildSystem(workspace, 'first', source, true)
    assert.equal((await add(state, source)).repaired, 0)
    const repair = () => addImage(state, source, { repair: true })
    const places = join(state, 'images')
    await assert.rejects(repair(), netimageError('in-use', { file: places }))
    for (const file of files) assert.match(fs.readFileSync(file, 'utf8'), /CHANGED$/)
    other.image.release()
    const repaired = await repair()
    repaired.image.release()
    assert.deepEqual([repaired.isNew, repaired.added, repaired.repaired], [false, 0, 1])
    assert.equal(repaired.isRepaired, true)
    assertSameLines(describeTrees(), before)
    assert.deepEqual(leftovers(state), [])
    const again = await repair()
    again.image.release()
    assert.equal(again.isRepaired, false)
  })

  test('whose manifest has changed keeps all others from being removed', async () => {
    const state = freshName()
    const [first, second] = [await add(state, images.first), await add(state, images.second)]
    const manifest = join(first.image.directory, 'nix-support/net-image.json')
    fs.rmSync(manifest)
    fs.writeFileSync(manifest, '{}')
    const before = fs.readdirSync(join(state, 'images')).toSorted()
    const refused = netimageError('image-damaged', { file: manifest })
    await assert.rejects(
      removeUnused(state, () => new Set([first.image.id])),
      refused,
    )
    assert.deepEqual(fs.readdirSync(join(state, 'images')).toSorted(), before)
    // If nothing keeps the damaged image either, its manifest is not needed.
    const { removedImages } = await removeUnused(state, () => new Set([second.image.id]))
    assert.deepEqual(removedImages, [first.image.id])
  })
})

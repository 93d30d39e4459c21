// Everyday work of machines on a root of our server, while the server is killed again and again.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { verifyLayer } from '../../src/roots/verify.ts'
import { indexWithStore } from '../roots/support/index-with-store.ts'
import { startHostedClient } from '../protocols/support/hosted-client.ts'
import { workThroughKills } from '../serve/support/killed-server.ts'
import { openNetwork } from './support/network.ts'

/** Short work is interrupted more often. */
const operationsBetweenKills = { short: 300, long: 600 }
const support = join(import.meta.dirname, '../protocols/support')

suite('Linux does not notice that its server is killed', { concurrency: 2 }, () => {
  test('during random operations', () =>
    work({
      name: 'operations',
      length: 'long',
      image(tree) {
        mkdirSync(join(tree, 'image/sub'), { recursive: true })
        writeFileSync(join(tree, 'image/f'), 'hello\n')
      },
      script: randomOperations,
    }))

  test('while several programs write to SQLite', () =>
    work({ name: 'sqlite', length: 'short', script: sqlite }))

  test('while a large archive is unpacked', () =>
    work({ name: 'archive', length: 'long', image: writeArchive, script: unpacking }))

  test('while Nix fills, empties and verifies a store', () =>
    work({ name: 'nix', length: 'short', image: writeStorePaths, script: nixStore }))
})

/** CI uses the default number of steps; ten steps take about 0.1 s. */
const { SEED: seed = '1', STEPS: steps = '1000' } = process.env

/** Runs in a directory of the machine's own file system, and in a directory over NFS. */
const randomOperations = `
cp -a there/image image
mkdir here && mv image here
operate() { perl ${join(support, 'random-operations.pl')} "$1" ${seed} ${steps}; }
operate here >expected || exit 1
echo working
operate there >actual || exit 2
cmp expected actual && exit 0
diff -U 30 expected actual | head -90
exit 3`

const sqlite = `
cd there
sqlite3 db 'CREATE TABLE written (who INTEGER, count INTEGER, PRIMARY KEY (who, count))' || exit 1
echo working
write() {
  for count in $(seq 30); do
    sqlite3 -cmd '.timeout 60000' db "INSERT INTO written VALUES ($1, $count)" || exit 1
  done
}
write 1 & write 2 & write 3 & wait
sqlite3 db 'PRAGMA integrity_check; SELECT who, count(*), sum(count) FROM written GROUP BY who' >../found
cat ../found
printf 'ok\n1|30|465\n2|30|465\n3|30|465\n' | cmp - ../found`

/** The files of the archive differ in content, mode and time. */
function writeArchive(tree: string): void {
  const source = join(tree, '../source')
  for (let folder = 0; folder < 5; folder++) {
    const directory = join(source, `folder-${folder}`)
    mkdirSync(directory, { recursive: true })
    for (let file = 0; file < 100; file++) {
      const [name, content] = [join(directory, `file-${file}`), `${folder} ${file}\n`.repeat(file)]
      writeFileSync(name, content, { mode: file % 2 === 0 ? 0o644 : 0o755 })
      utimesSync(name, file, folder * 1000 + file)
    }
    symlinkSync('file-1', join(directory, 'link'))
    linkSync(join(directory, 'file-2'), join(directory, 'other-name'))
  }
  execFileSync('tar', ['-cf', join(tree, 'archive.tar'), '-C', source, '.'])
}

const unpacking = `
mkdir there/unpacked
echo working
tar -xf there/archive.tar -C there/unpacked || exit 1
sync
echo 3 >/proc/sys/vm/drop_caches
tar -df there/archive.tar -C there/unpacked || exit 2
rm -r there/unpacked
[ "$(ls -A there)" = archive.tar ]`

/** Store paths that Nix's database does not have: Nix collects them as garbage. */
function writeStorePaths(tree: string): void {
  for (const letter of ['a', 'b', 'c']) {
    const path = join(tree, `nix/store/${letter.repeat(32)}-of-the-image`)
    mkdirSync(join(path, 'share/doc'), { recursive: true })
    writeFileSync(join(path, 'share/doc/text'), letter, { mode: 0o444 })
    writeFileSync(join(path, 'same'), 'same', { mode: 0o444 })
  }
}

const nixStore = `
export NIX_CONFIG='build-users-group =
substituters =' NIX_REMOTE=local?root=/mnt/there
mkdir made
nix-store --init || exit 1
[ "$(ls -d there/nix/store/*-of-the-image | wc -l)" = 3 ] || exit 8
echo working
for count in $(seq 6); do
  mkdir made/$count
  seq $count 5000 >made/$count/numbers
  echo same >made/$count/same
  path=$(nix-store --add made/$count) || exit 2
  if [ $((count % 3)) = 0 ]; then nix-store --add-root there/root-$count --realise $path || exit 3; fi
done
nix-store --verify --check-contents || exit 4
nix-store --optimise || exit 5
nix-store --gc || exit 6
nix-store --verify --check-contents || exit 7
ls there/nix/store
[ "$(ls -d there/nix/store/*-* | wc -l)" = 2 ]`

type Work = {
  name: string
  length: keyof typeof operationsBetweenKills
  image?: (tree: string) => void
  script: string
}

/** Runs a script on a layer over an image, and kills its server again and again. */
async function work({ name, length, image, script }: Work): Promise<void> {
  await using network = await openNetwork(`serve-work-${name}`)
  const { kills, layer, tree } = await workThroughKills(network, {
    image,
    startMachine: (mount) =>
      startHostedClient(network, { name: 'machine', host: 103, ...mount, script }),
    begins: /^working$/,
    operationsBetweenKills: operationsBetweenKills[length],
  })
  assert.ok(kills >= 2, String(kills))
  assert.deepEqual(verifyLayer(layer, indexWithStore(tree)).problems, [])
}

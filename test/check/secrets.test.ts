import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { checkSystem } from '../../src/check/check-system.ts'
import type { PathInfo } from '../../src/nix/path-info.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { publishedInfo, publishedPath } from '../support/published-path.ts'
import {
  assertFindings,
  findingsOf,
  makeCheckInput,
  scriptedInitrd,
  treeFile,
} from './make-system.ts'
import { networkModules, nfsModules } from './make-system.ts'

const pem = generateKeyPairSync('ed25519')
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString()

suite('secrets-in-store', () => {
  const rule = 'secrets-in-store'

  test('a file that is a store path, and a file inside a store path', async () => {
    const paths = { 'tls.key': pem, config: { nginx: { 'server.key': pem } } }
    assertFindings(
      await findingsOf({ paths }),
      { rule, level: 'warning', message: /private key/, path: /-tls\.key$/ },
      { rule, level: 'warning', path: /-config\/nginx\/server\.key$/ },
    )
  })

  test('passwords have their own fix', async () => {
    const hash = '$6$rounds=5000$saltsaltsalt$abcdefghijklmnopqrstuvwxyzABCDEFGHIJ'
    const users = JSON.stringify({ users: [{ name: 'root', hashedPassword: hash }] })
    assertFindings(await findingsOf({ paths: { 'users-groups.json': users } }), {
      rule,
      level: 'warning',
      fix: /hashedPasswordFile/,
    })
  })

  test('in a folder with names that are no text', async () => {
    const input = await makeCheckInput({ paths: { 'a.key': pem, odd: { file: 'text' } } })
    const odd = input.closure.find(({ path }) => path.endsWith('-odd'))
    const tree = odd && (await input.treeOf(odd.path))
    assert.ok(tree)
    const name = Buffer.concat([Buffer.from(`${tree}/caf`), Buffer.from([0xe9])])
    writeFileSync(name, pem)
    const findings = await checkSystem(input)
    assertFindings(
      findings,
      { rule, level: 'warning' },
      { rule, level: 'warning', path: /-odd\/caf/ },
    )
  })

  test('only the first secrets of a store path are listed', async () => {
    const keys = Object.fromEntries(Array.from({ length: 7 }, (_, at) => [`key-${at}`, pem]))
    const few = [1, 2, 3].map(() => ({ rule, level: 'warning' }) as const)
    const findings = await findingsOf({ paths: { keys } })
    assertFindings(findings, ...few)
    assert.match(findings.at(-1)?.message ?? '', /4 more files/)
  })

  test('keys of tests and manuals are no secrets', async () => {
    const paths = {
      program: { lib: { tests: { 'a.key': pem } }, share: { doc: { 'a.key': pem } } },
    }
    assertFindings(await findingsOf({ paths }))
  })

  test('in the initrd', async () => {
    // Everybody can fetch the initrd over TFTP.
    const files = [...nfsModules, ...networkModules, { name: 'etc/wg.key', data: pem }]
    assertFindings(await findingsOf({ initrd: scriptedInitrd({ files }) }), {
      rule,
      level: 'warning',
      message: /\/etc\/wg\.key of the initrd .* TFTP/,
      path: /-initrd-test\/initrd$/,
    })
  })

  test('trees are fetched together, and never for silenced rules', async () => {
    const input = await makeCheckInput({ paths: { 'a.key': pem } })
    const fetched: number[] = []
    const prefetch = async (paths: readonly unknown[]) => void fetched.push(paths.length)
    const silenced = ['secrets-in-store', 'host-keys-baked-in']
    assertFindings(await checkSystem({ ...input, prefetch, silenced }))
    assert.deepEqual(fetched, [])
    assertFindings(await checkSystem({ ...input, prefetch }), { rule, level: 'warning' })
    assert.deepEqual(fetched, [input.closure.length])
  })

  test('a path that the public cache has signed is not searched', async () => {
    const input = await makeCheckInput({ paths: { 'a.key': pem } })
    const key = input.closure.find(({ path }) => path.endsWith('-a.key'))
    assert.ok(key)
    // A real path that cache.nixos.org has signed, with another tree.
    const treeOf = async (path: StorePath) =>
      await input.treeOf(path === publishedPath ? key.path : path)
    const others = input.closure.filter((info) => info !== key)
    assertFindings(await checkSystem({ ...input, closure: [...others, publishedInfo], treeOf }))
    const closure = [...others, { ...publishedInfo, signatures: [] }]
    assertFindings(await checkSystem({ ...input, closure, treeOf }), {
      rule,
      level: 'warning',
      message: /without signatures, netimage cannot tell/,
    })
    // An image has no signatures, but its manifest names the public paths.
    const publicPaths = new Set([publishedPath])
    assertFindings(await checkSystem({ ...input, closure, treeOf, publicPaths }))
    assertFindings(await checkSystem({ ...input, publicPaths }), {
      rule,
      level: 'warning',
      message: /everybody who can mount the root can read it$/,
    })
  })

  test('an invalid signature with the name of the public cache has no effect', async () => {
    const input = await makeCheckInput({ paths: { 'a.key': pem } })
    const signature = `cache.nixos.org-1:${Buffer.alloc(64).toString('base64')}`
    const sign = (info: PathInfo) => ({ ...info, signatures: [signature] })
    const findings = await checkSystem({ ...input, closure: input.closure.map(sign) })
    assertFindings(findings, { rule, level: 'warning' })
  })
})

suite('host-keys-baked-in', () => {
  const rule = 'host-keys-baked-in'

  test('in the store; the key is not also reported as a secret', async () => {
    const paths = { 'etc-ssh': { ssh_host_ed25519_key: pem }, ssh_host_rsa_key: pem }
    assertFindings(
      await findingsOf({ paths }),
      { rule, level: 'warning', path: /-etc-ssh\/ssh_host_ed25519_key$/ },
      { rule, level: 'warning', path: /-ssh_host_rsa_key$/ },
    )
  })

  test('in the initrd', async () => {
    const key = { name: 'etc/ssh/ssh_host_ed25519_key', data: pem }
    const initrd = scriptedInitrd({ files: [...nfsModules, ...networkModules, key] })
    assertFindings(await findingsOf({ initrd }), { rule, level: 'warning', message: /initrd/ })
  })

  test('in the root tree', async () => {
    const names = ['ssh_host_rsa_key', 'ssh_host_rsa_key.pub', 'sshd_config']
    const rootFiles = names.map((name) => treeFile(`etc/ssh/${name}`, 500))
    assertFindings(await findingsOf({}, { rootFiles }), {
      rule,
      level: 'warning',
      path: /^\/etc\/ssh\/ssh_host_rsa_key$/,
    })
  })

  test('public keys and links are no host keys', async () => {
    const paths = {
      'etc-ssh': { 'ssh_host_rsa_key.pub': 'ssh-rsa AAAA', ssh_host_x_key: 'no key' },
    }
    assertFindings(await findingsOf({ paths }))
  })
})

suite('machine-id-baked-in', () => {
  const rule = 'machine-id-baked-in'
  const id = `${'0123456789abcdef'.repeat(2)}\n`

  test('in /etc of the system', async () => {
    assertFindings(await findingsOf({ etc: { 'machine-id': id } }), {
      rule,
      level: 'warning',
      path: /-etc\/machine-id$/,
    })
    assertFindings(await findingsOf({ etc: { 'machine-id': 'uninitialized\n' } }))
    assertFindings(await findingsOf({ etc: { 'machine-id': '' } }))
  })

  test('in the root tree', async () => {
    const machineId = (size: number) => ({ rootFiles: [treeFile('etc/machine-id', size)] })
    assertFindings(await findingsOf({}, machineId(33)), {
      rule,
      level: 'warning',
      path: /^\/etc\/machine-id$/,
    })
    for (const size of [0, 14]) assertFindings(await findingsOf({}, machineId(size)))
  })
})

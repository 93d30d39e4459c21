import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import { netimageError } from '../support/errors.ts'

suite('an NFS root is read as in the kernel’s documentation:', () => {
  const samples: Record<string, Omit<ReturnType<typeof parseNfsRoot>, 'text'>> = {
    '192.168.0.108:/mnt/nfsshare/nixos,v3': {
      server: '192.168.0.108',
      path: '/mnt/nfsshare/nixos',
      version: '3',
      options: [],
    },
    '/srv/nixos': { server: undefined, path: '/srv/nixos', version: undefined, options: [] },
    '/': { server: undefined, path: '/', version: undefined, options: [] },
    '/tftpboot/%s': { server: undefined, path: '/tftpboot/%s', version: undefined, options: [] },
    'server:/srv/nixos': { server: 'server', path: '/srv/nixos', version: undefined, options: [] },
    'a.example:/x,vers=4.2,tcp,rsize=8192': {
      server: 'a.example',
      path: '/x',
      version: '4.2',
      options: ['tcp', 'rsize=8192'],
    },
    '10.0.0.1:/x,nfsvers=4,nolock': {
      server: '10.0.0.1',
      path: '/x',
      version: '4',
      options: ['nolock'],
    },
    '10.0.0.1:/x,v3,v4.1': { server: '10.0.0.1', path: '/x', version: '4.1', options: [] },
    '[fd00::1]:/x,ro': { server: 'fd00::1', path: '/x', version: undefined, options: ['ro'] },
    '10.0.0.1:/with:colon': {
      server: '10.0.0.1',
      path: '/with:colon',
      version: undefined,
      options: [],
    },
    '10.0.0.1:/x,': { server: '10.0.0.1', path: '/x', version: undefined, options: [] },
    '10.0.0.1:/x,,v3,,': { server: '10.0.0.1', path: '/x', version: '3', options: [] },
    '10.0.0.1:/x,v5,vers=4.9,version=3': {
      server: '10.0.0.1',
      path: '/x',
      version: undefined,
      options: ['v5', 'vers=4.9', 'version=3'],
    },
  }
  for (const [text, expected] of Object.entries(samples)) {
    test(text, () => assert.deepEqual(parseNfsRoot(text), { text, ...expected }))
  }
})

suite('a text that is no NFS root is refused:', () => {
  const texts = [
    ['', 'server', 'server:', 'server:path', 'path/without/slash', ':/path', ',v3', 'v3'],
    [
      'a b:/x',
      '10.0.0.1:/with blank',
      '10.0.0.1:/x,v3 root=/dev/sda',
      '10.0.0.1:/x\n',
      '\t/x',
      '/x\0',
      '/x\x1b',
    ],
    ['fd00::1:/x', '[fd00::1]/x', '[]:/x', 'a,b:/x', 'nfs://10.0.0.1/x', 'a:b:/x', 'a/b:/x'],
    ['10.0.0.1:/non\u00a0breaking', '10.0.0.1:/x\u2028'],
  ].flat()
  for (const text of texts) {
    test(JSON.stringify(text), () => {
      assert.throws(
        () => parseNfsRoot(text),
        netimageError('bad-option', { field: 'nfsRoot', actual: text }),
      )
    })
  }
})

test('the parts of any NFS root are found again', () => {
  const name = fc.stringMatching(/^[a-z0-9.-]{1,20}$/)
  const path = fc.stringMatching(/^\/([a-z0-9%._:-][a-z0-9/%._:-]{0,30})?$/)
  const version = fc.constantFrom('2', '3', '4', '4.0', '4.1', '4.2')
  const option = fc.constantFrom('ro', 'tcp', 'nolock', 'rsize=1024', 'port=2049')
  fc.assert(
    fc.property(
      fc.option(name, { nil: undefined }),
      path,
      fc.option(version, { nil: undefined }),
      fc.constantFrom('v', 'vers=', 'nfsvers='),
      fc.array(option),
      (server, path, version, key, options) => {
        const place = server === undefined ? path : `${server}:${path}`
        const named = version === undefined ? [] : [`${key}${version}`]
        const text = [place, ...options, ...named].join(',')
        assert.deepEqual(parseNfsRoot(text), { text, server, path, version, options })
      },
    ),
  )
})

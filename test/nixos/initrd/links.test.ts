import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followSymlinks } from '../../../src/nixos/initrd/links.ts'

const links = new Map([
  ['/init', 'nix/store/systemd/lib/systemd/systemd'],
  ['/absolute', '/init'],
  ['/nix/store/systemd', 'a-systemd'],
  ['/up', 'etc/../../../init'],
  ['/loop', '/loop/x'],
  ['/circle', '/circle2'],
  ['/circle2', 'circle'],
])

test('links are followed in every part of a path, and one after another', () => {
  const systemd = '/nix/store/a-systemd/lib/systemd/systemd'
  for (const path of [
    '/init',
    'init',
    '/absolute',
    '/up',
    '/nix/store/systemd/lib/systemd/systemd',
  ]) {
    assert.equal(followSymlinks(links, path), systemd, path)
  }
  assert.equal(followSymlinks(links, '/etc/fstab'), '/etc/fstab')
})

test('links that form a circle lead nowhere', () => {
  assert.equal(followSymlinks(links, '/loop'), undefined)
  assert.equal(followSymlinks(links, '/circle'), undefined)
})

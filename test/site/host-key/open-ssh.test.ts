// Keys of OpenSSH: its own ssh-keygen judges them.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { findProgram } from '../../support/packages.ts'
import {
  fingerprintOf,
  makeHostKey,
  publicKeyIn,
  publicLine,
} from '../../../src/site/host-key/open-ssh.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())

function keygen(...args: string[]): string {
  return execFileSync(findProgram('ssh-keygen'), args, { encoding: 'utf8' })
}

function writeKey(text: string): string {
  const file = freshName()
  writeFileSync(file, text, { mode: 0o600 })
  return file
}

/** A key that OpenSSH makes. */
function made(type: string, ...args: string[]): { text: string; line: string } {
  const file = freshName()
  keygen('-q', '-t', type, '-f', file, '-C', 'root@there', ...args)
  return { text: readFileSync(file, 'utf8'), line: readFileSync(`${file}.pub`, 'utf8').trimEnd() }
}

const lineOf = (text: string, comment = 'root@there') => {
  const key = publicKeyIn(text)
  return key && publicLine(key, comment)
}

const bytesOf = (text: string) => Buffer.from(text.split('\n').slice(1, -2).join(''), 'base64')
/** Where the random numbers for the check of the passphrase are. */
const check = { from: 98, to: 106 }

suite('an ed25519 key', () => {
  test('is read by OpenSSH, with comments of any length', () => {
    for (let length = 1; length <= 17; length++) {
      const comment = 'root@pi-1234567890'.slice(0, length)
      const { privateKey, publicKey } = makeHostKey(comment)
      const file = writeKey(privateKey)
      const line = publicLine(publicKey, comment)
      assert.equal(keygen('-y', '-f', file).trimEnd(), line)
      assert.equal(lineOf(privateKey, comment), line)
      const shown = keygen('-l', '-f', file).trimEnd()
      assert.equal(shown, `256 ${fingerprintOf(publicKey)} ${comment} (ED25519)`)
    }
  })

  test('is written as OpenSSH writes it', () => {
    const { privateKey } = makeHostKey('root@pi1')
    const file = writeKey(privateKey)
    // OpenSSH writes the key anew, with other random numbers for its check.
    keygen('-q', '-p', '-N', '', '-f', file)
    const [ours, theirs] = [privateKey, readFileSync(file, 'utf8')]
    assert.deepEqual(
      ours.split('\n').map(({ length }) => length),
      theirs.split('\n').map(({ length }) => length),
    )
    const [one, other] = [bytesOf(ours), bytesOf(theirs)]
    for (const bytes of [one, other]) bytes.fill(0, check.from, check.to)
    assert.deepEqual(one, other)
  })

  test('is another one each time', () => {
    assert.notEqual(makeHostKey('x').privateKey, makeHostKey('x').privateKey)
  })

  test('that OpenSSH made is read, also with a passphrase', () => {
    const plain = made('ed25519', '-N', '')
    assert.equal(lineOf(plain.text), plain.line)
    const locked = made('ed25519', '-N', 'a passphrase')
    assert.equal(lineOf(locked.text), locked.line)
  })

  test('is not a key of another type, nor one of another format', () => {
    for (const { text } of [
      made('rsa', '-N', '', '-b', '2048'),
      made('ecdsa', '-N', ''),
      made('rsa', '-N', '', '-b', '2048', '-m', 'PEM'),
    ]) {
      assert.equal(publicKeyIn(text), undefined)
    }
    assert.equal(publicKeyIn(''), undefined)
  })

  test('that is cut off or changed is refused, or its public key is whole', () => {
    const { privateKey, publicKey } = makeHostKey('root@pi1')
    const [first = '', last = ''] = privateKey.match(/^-----.*\n/gm) ?? []
    const bytes = bytesOf(privateKey)
    const armored = (content: Uint8Array) =>
      `${first}${Buffer.from(content).toString('base64')}\n${last}`
    assert.deepEqual(publicKeyIn(armored(bytes)), publicKey)
    for (let end = 0; end < bytes.length; end++) {
      const found = publicKeyIn(armored(bytes.subarray(0, end)))
      if (found) assert.deepEqual(found, publicKey)
    }
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.uint8Array({ maxLength: 200 }), (at, change) => {
        const changed = Buffer.concat([bytes.subarray(0, at), change])
        const found = publicKeyIn(armored(changed))
        if (found) assert.equal(found.length, publicKey.length)
        assert.equal(publicKeyIn(armored(change)), undefined)
      }),
    )
  })
})

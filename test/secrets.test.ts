import assert from 'node:assert/strict'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { suite, test } from 'node:test'
import { findSecret, isHostKeyName, maxSecretFileBytes } from '../src/secrets.ts'
import { endsInTime } from './support/waiting.ts'

const find = (text: string, name = 'file') => findSecret(name, Buffer.from(text))
const pemOf = (type: 'pkcs1' | 'pkcs8' | 'sec1') => {
  if (type === 'sec1') {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    return privateKey.export({ type, format: 'pem' }).toString()
  }
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return privateKey.export({ type, format: 'pem' }).toString()
}

suite('private keys', () => {
  test('of every kind, anywhere in a file', () => {
    for (const type of ['pkcs1', 'pkcs8', 'sec1'] as const) {
      const pem = pemOf(type)
      assert.equal(find(pem), 'private key', type)
      assert.equal(find(`# certificate and key\n${pem}\n`), 'private key', type)
      assert.equal(find(pem.replaceAll('\n', '\r\n')), 'private key', type)
    }
  })

  test('are not public keys, encrypted keys, or programs that handle keys', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    assert.equal(find(publicKey.export({ type: 'spki', format: 'pem' }).toString()), undefined)
    const encrypted = privateKey.export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: 'x',
    })
    assert.equal(find(encrypted.toString()), undefined)
    assert.equal(find('if line == "-----BEGIN PRIVATE KEY-----":\n    return parse\n'), undefined)
    const documented = '-----BEGIN PRIVATE KEY-----\n(your key)\n-----END PRIVATE KEY-----\n'
    assert.equal(find(documented), undefined)
  })

  test('of age and WireGuard', () => {
    const age = `AGE-SECRET-KEY-1${'QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L'.repeat(2).slice(0, 58)}`
    assert.equal(find(`# created: today\n# public key: age1…\n${age}\n`), 'age key')
    assert.equal(find(`pattern = "AGE-SECRET-KEY-1[A-Z0-9]{58}"\n`), undefined)
    const key = randomBytes(32).toString('base64')
    assert.equal(find(`[Interface]\nPrivateKey = ${key}\n`), 'WireGuard private key')
    assert.equal(
      find(`[WireGuard]\nPrivateKey=${key}\nListenPort=51820\n`),
      'WireGuard private key',
    )
    assert.equal(find(`[WireGuardPeer]\nPublicKey=${key}\nEndpoint=1.2.3.4:5\n`), undefined)
    assert.equal(find('[WireGuard]\nPrivateKeyFile=/run/keys/wg\n# and more text\n'), undefined)
  })
})

suite('passwords', () => {
  const hash = '$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7'

  test('in the forms of crypt(5)', () => {
    assert.equal(find(`root:${hash}:19000::::::\n`, 'shadow'), 'password')
    assert.equal(find(`admin:$2y$05$${'a'.repeat(53)}\n`, '.htpasswd'), 'password')
    assert.equal(find(`{"users":[{"hashedPassword":"${hash}"}]}`, 'users-groups.json'), 'password')
    assert.equal(find(`{"users":[{"password":"hunter2"}]}`, 'users-groups.json'), 'password')
    assert.equal(find(`{"users":[{"password":"hunter2"}]}`, 'userborn.json'), 'password')
    assert.equal(find(`{"users":[{"hashedPassword":"${hash}"}]}`, 'userborn.json'), 'password')
  })

  test('in the forms of htpasswd and nginx, and of systemd-sysusers', () => {
    for (const entry of [
      '{PLAIN}correct horse',
      '{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=',
      '$apr1$x$y',
    ]) {
      assert.equal(find(`# who may\nalice:${entry}\n`, 'nginx-web-auth.htpasswd'), 'password')
      assert.equal(find(`# who may\nalice:${entry}\n`, 'manual.html'), undefined)
    }
    const unit = '[Service]\nExecStart=systemd-sysusers\n'
    const credential = `SetCredential=passwd.hashed-password.root:${hash}\n`
    assert.equal(find(unit + credential, 'overrides.conf'), 'password')
    assert.equal(find(`${unit}LoadCredential=passwd.hashed-password.root\n`), undefined)
  })

  test('are not locked accounts or hashes in manuals', () => {
    assert.equal(find('root:!:1::::::\nnobody:*:1::::::\n', 'shadow'), undefined)
    assert.equal(find(`Example: root:${hash}:19000::::::\n`, 'crypt.html'), undefined)
    const none = '{"users":[{"hashedPassword":null,"password":null}]}'
    assert.equal(find(none, 'users-groups.json'), undefined)
  })

  test('of netrc(5)', () => {
    const text = 'machine cache.example.org\n  login me\n  password secret\n'
    assert.equal(find(text, '.netrc'), 'netrc password')
    assert.equal(find(text, 'netrc'), 'netrc password')
    assert.equal(find(text, 'netrc.md'), undefined)
    assert.equal(find('machine cache.example.org\n  login me\n', 'netrc'), undefined)
  })
})

test('binary, empty and large files are not searched', () => {
  const pem = pemOf('pkcs8')
  assert.equal(find(`\0${pem}`), undefined)
  assert.equal(find(''), undefined)
  assert.equal(find(pem + ' '.repeat(maxSecretFileBytes)), undefined)
})

test('a file that is made to slow down the search does not slow it down', () => {
  for (const text of [
    'machine a\n',
    'PrivateKey = ',
    '-----BEGIN PRIVATE KEY-----\n',
    'AGE-SECRET-KEY-1',
    '$6$a',
    '\n',
  ]) {
    const content = text.repeat(Math.floor(maxSecretFileBytes / text.length))
    // Often, because one such search of so small a file would end before the deadline.
    endsInTime(() => {
      for (let count = 0; count < 100; count++) find(content, 'netrc')
    })
  }
})

test('names of host keys', () => {
  for (const name of ['ssh_host_rsa_key', 'ssh_host_ed25519_key']) assert.ok(isHostKeyName(name))
  for (const name of ['ssh_host_rsa_key.pub', 'ssh_host_rsa_key.age', 'my_ssh_host_rsa_key']) {
    assert.ok(!isHostKeyName(name))
  }
})

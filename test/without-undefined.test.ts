import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BootSettings } from '../src/boot/request.ts'
import { withoutUndefined } from '../src/without-undefined.ts'

test('what is not set is missing, and a key that is misspelt is an error of types', () => {
  const own = { firmware: './own', machines: ['dc:a6:32:01:02:03'] }
  const given = withoutUndefined<BootSettings>({ firmware: undefined, ipxe: '', machines: [] })
  assert.deepEqual({ ...own, ...given }, { firmware: './own', ipxe: '', machines: [] })
  // @ts-expect-error: the key is signCertificate
  withoutUndefined<BootSettings>({ signCertficate: 'file' })
  // @ts-expect-error: a list of addresses is wanted
  withoutUndefined<BootSettings>({ machines: 'dc:a6:32:01:02:03' })
})

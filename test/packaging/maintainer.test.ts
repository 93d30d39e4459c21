import assert from 'node:assert/strict'
import { test } from 'node:test'
import { maintainerOf, noMaintainer } from '../../packaging/maintainer.ts'

test('the maintainer of the Debian package is the person who releases it, or the author', () => {
  const author = 'The authors <authors@example.org>'
  const person = { DEBFULLNAME: 'Ada Lovelace', DEBEMAIL: 'ada@example.org' }
  const expected = 'Ada Lovelace <ada@example.org>'
  assert.equal(maintainerOf(person, { author }), expected)
  // debchange(1): the address may have the name as well.
  assert.equal(maintainerOf({ DEBEMAIL: expected }, {}), expected)
  assert.equal(maintainerOf({}, { author }), author)
  assert.equal(maintainerOf({}, {}), noMaintainer)
  for (const address of ['', 'ada', 'ada@example.org>\nEssential: yes', 'a@b <c@d']) {
    assert.throws(() => maintainerOf({ ...person, DEBEMAIL: address }, { author }), /Set DEBFULL/)
  }
  assert.throws(() => maintainerOf({ ...person, DEBFULLNAME: ' ' }, {}), /Set DEBFULLNAME/)
})

// The same as model.test.ts, for longer: more than 100,000 operations.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('any operations have the same outcome as on a real file system', () =>
  runModels(directory, { runs: 450, operations: 480 }))

test('operations in store paths have the same outcome, even if the memory is too small for their nodes', () =>
  runModels(directory, { runs: 300, operations: 480, where: 'store' }))

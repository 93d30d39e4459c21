// The same as model.test.ts in store paths, for longer.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('operations in store paths have the same outcome, even if the memory is too small for their nodes', () =>
  runModels(directory, { runs: 110, operations: 480, where: 'store' }))

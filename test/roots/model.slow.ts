// The same as model.test.ts, for longer: together with model-store.slow.ts more than 120,000
// operations. Two files, because tests of one file wait for each other.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('any operations have the same outcome as on a real file system', () =>
  runModels(directory, { runs: 150, operations: 480 }))

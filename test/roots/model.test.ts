// A layer behaves like a real directory.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('any operations have the same outcome as on a real file system', () =>
  runModels(directory, { runs: 120, operations: 400 }))

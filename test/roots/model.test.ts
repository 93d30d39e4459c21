// A layer behaves like a real directory.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('any operations have the same outcome as on a real file system', () =>
  runModels(directory, { runs: 120, operations: 400 }))

test('so they have in store paths, even if the memory is too small for their nodes', () =>
  runModels(directory, { runs: 40, operations: 400, where: 'store' }))

// A layer behaves like a real directory.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('any operations have the same outcome as on a real file system', () =>
  runModels(directory, { runs: 60, operations: 400 }))

test('operations in store paths have the same outcome, even if the memory is too small for their nodes', () =>
  runModels(directory, { runs: 20, operations: 400, where: 'store' }))

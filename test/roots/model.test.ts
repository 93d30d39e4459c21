// A layer does what a real directory does.

import { test } from 'node:test'
import { modelDirectory, runModels } from './support/layer-model.ts'

const directory = modelDirectory()

test('any operations have the outcome that they have on a real file system', () =>
  runModels(directory, { runs: 120, operations: 400 }))

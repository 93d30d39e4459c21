import { Command } from '@commander-js/extra-typings'

import { addCommand, collectCommand, imagesCommand } from './site-images.ts'
import {
  assignCommand,
  badCommand,
  goodCommand,
  nameCommand,
  rollbackCommand,
} from './site-life.ts'
import { keysCommand } from './site-keys.ts'
import { logCommand } from './site-log.ts'
import { applyCommand } from './site-apply.ts'
import { planCommand } from './site-plan.ts'
import {
  abortCommand,
  holdCommand,
  pauseCommand,
  releaseCommand,
  resumeCommand,
} from './site-rollouts.ts'
import { pushCommand, receiveCommand } from './site-push.ts'
import { statusCommand } from './site-status.ts'

export function siteCommand() {
  const site = new Command('site').description(
    'Manage the images of a site, and what its machines boot',
  )
  const make = [
    ...[planCommand, applyCommand],
    ...[addCommand, imagesCommand, collectCommand],
    ...[assignCommand, statusCommand, rollbackCommand, goodCommand, badCommand, nameCommand],
    ...[pauseCommand, resumeCommand, abortCommand, holdCommand, releaseCommand],
    ...[keysCommand, logCommand, pushCommand, receiveCommand],
  ]
  for (const command of make) site.addCommand(command().exitOverride())
  return site
}
